"""A run that is killed in its evaluation goes on behind the last finished agent; a finished one is only reported."""

import numpy as np
import pytest
from resealing import reseal_folder

from icrl.cli import main
from icrl.evaluation.online import Trial
from icrl.recipes import measure
from icrl.recipes.ledger import Ledger
from icrl.storage.publish import read_json


def test_an_entry_is_computed_once_and_again_when_it_is_damaged(tmp_path):
    ledger, calls = Ledger(tmp_path / "evaluation"), []

    def compute():
        calls.append(1)
        return {"regret": np.arange(6.0).reshape(2, 3), "reward": np.ones((2, 3), np.float32)}

    first, again = ledger.once("ucb, seed 0", compute), ledger.once("ucb, seed 0", compute)
    assert len(calls) == 1
    assert all(np.array_equal(first[name], again[name]) and first[name].dtype == again[name].dtype for name in first)
    ledger.once("ucb, seed 1", compute)
    assert len(calls) == 2
    for path in (tmp_path / "evaluation").glob("*/regret.npy"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert np.array_equal(ledger.once("ucb, seed 0", compute)["regret"], first["regret"])
    assert len(calls) == 3
    whose = {read_json(path)["meta"]["name"]: path.parent for path in (tmp_path / "evaluation").glob("*/manifest.json")}
    for curves in (1.5, [1.5], ["loss"], None):
        reseal_folder(whose["ucb, seed 0"], lambda manifest, curves=curves: manifest["meta"].update(curves=curves))
        assert np.array_equal(ledger.once("ucb, seed 0", compute)["regret"], first["regret"])
    assert len(calls) == 7
    ledger.clear()
    assert not (tmp_path / "evaluation").exists()
    ledger.clear()


def test_a_killed_evaluation_goes_on_and_a_finished_run_is_not_evaluated_again(tmp_path, monkeypatch):
    words = ["run", "dpt", "--preset", "smoke", "--train-steps", "4", "--competitors", "ucb,uniform,oracle"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    played, measured = [], Trial.curves

    def dying(trial, agent, *rest):
        if len(played) == 2:
            raise KeyboardInterrupt
        played.append(type(agent).__name__)
        return measured(trial, agent, *rest)

    monkeypatch.setattr(measure, "host_workers", lambda: 1)
    monkeypatch.setattr(Trial, "curves", dying)
    killed = [*words, "--out", str(tmp_path / "killed")]
    assert main(killed) == 130
    assert not (tmp_path / "killed" / "results.json").exists()
    seen = []
    monkeypatch.setattr(Trial, "curves", lambda *a: seen.append(type(a[1]).__name__) or measured(*a))
    assert main([*killed, "--resume"]) == 0
    assert len(seen) == 4 - len(played)
    assert not set(seen) & set(played)
    whole, resumed = (read_json(tmp_path / name / "results.json") for name in ("whole", "killed"))
    assert resumed["online"] == whole["online"]
    assert not (tmp_path / "killed" / "evaluation").exists()
    seen.clear()
    assert main([*killed, "--resume"]) == 0
    assert not seen
    assert main(["evaluate", str(tmp_path / "killed")]) == 0
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run dpt-bandit --width 60000", "training needs at least"),
        ("run dpt-bandit --eval-tasks 10000000 --horizon 4000", "evaluation needs at least"),
        ("collect dpt-bandit --num-tasks 2000000000", "the collection needs at least"),
        ("collect ad-darkroom --histories 1000000 --history-steps 100000 --num-tasks 5", "the collection needs"),
    ],
)
def test_what_cannot_fit_is_refused_before_anything_is_compiled(words, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("icrl.core.resources.free_memory", lambda: 16e9)
    monkeypatch.setattr("icrl.core.resources.shutil.disk_usage", lambda _: type("Disk", (), {"free": 1e10})())
    assert main([*words.split(), "--preset", "smoke", "--out", str(tmp_path / "out")]) == 5
    error = capsys.readouterr().err
    assert told in error and "lower " in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
