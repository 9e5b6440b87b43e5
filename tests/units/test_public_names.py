"""The public names of the package: a script from outside the tree, the flat table, figures, and what they refuse."""

import csv
import io
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sample_results import sample_results

import icrl
from icrl.core.errors import InputError
from icrl.recipes.recipe import Recipe
from icrl.reports.check import check_results, to_json
from icrl.reports.results import COLUMNS, RunResults
from icrl.storage.documents import sealed

ENVIRONMENT = '''
import dataclasses

import icrl
from icrl.core.fields import setting
from icrl.envs.bernoulli_bandit import BernoulliBandit


@icrl.registry.environments.register("OutsideBandit-v0")
@dataclasses.dataclass(frozen=True)
class OutsideBandit(BernoulliBandit):
    """Arms as everywhere, under a name of my own."""

    num_arms: int = setting(2, low=2, high=100, help="K")
    horizon: int = setting(8, low=1, high=1000, help="H")
'''
SCRIPT = """
import icrl
from outside import OutsideBandit

losses = []
few = {"train_steps": 4, "log_every": 1, "competitors": ("ucb1", "uniform"), "eval_tasks": 8, "offline_tasks": 8}
folder = icrl.pretrain("dpt", env=OutsideBandit(num_arms=3), preset="smoke", out="mine", **few,
                       on_row=lambda row: losses.append(row["loss"]))
results = icrl.evaluate(folder)
results.figure("regret").savefig("regret.png")
results.to_csv("results.csv")
agent = icrl.load_agent(folder)
agent.reset(seed=0)
print(len(losses), agent.act([0.0]), icrl.read_results(folder)["claim"])
"""


def test_a_script_from_outside_pretrains_evaluates_plots_saves_and_loads(tmp_path):
    lines = [line for line in SCRIPT.splitlines() if line.strip()]
    assert len(lines) <= 15
    (tmp_path / "outside.py").write_text(ENVIRONMENT)
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(icrl.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    count, action, *_ = done.stdout.splitlines()[-1].split()
    assert count == "4" and 0 <= int(action) < 3
    assert (tmp_path / "regret.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    final = {row["agent"]: row for row in rows if (row["section"], row["at"]) == ("online", "8")}
    assert set(final) == {"DPT", "ucb1", "uniform"} and all(row["env"] == "OutsideBandit" for row in rows)
    assert (final["DPT"]["seeds"], final["DPT"]["tasks"], final["ucb1"]["kind"]) == ("1", "8", "baseline")


def test_importing_the_package_and_asking_for_its_names_imports_no_jax():
    code = "import sys, icrl; print(sorted(set(icrl.__all__) - set(dir(icrl))), 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


def test_every_public_name_is_there_and_documented():
    for name in icrl.__all__:
        assert getattr(icrl, name).__doc__, name
    assert icrl.Recipe is Recipe
    with pytest.raises(AttributeError, match="nonsense"):
        _ = icrl.nonsense


@pytest.fixture
def results(tmp_path):
    document = check_results(sample_results())
    (tmp_path / "results.json").write_text(to_json(sealed(document)))
    return icrl.read_results(tmp_path)


def test_the_flat_table_has_each_number_once(results):
    rows = results.rows()
    assert all(tuple(row) == COLUMNS for row in rows)
    keys = [tuple(row[name] for name in ("section", "agent", "measure", "axis", "at")) for row in rows]
    assert len(keys) == len(set(keys)) == 6 * 40 + 6 * 7 + 3 * 7 + 8 + 2 + 2
    by_key = dict(zip(keys, rows, strict=True))
    row = by_key["online", "dpt", "regret", "step", 40]
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((12.4, 11.8, 13.0))
    assert (row["kind"], row["seeds"], row["tasks"], row["env"]) == ("model", 2, 300, "GaussianBandit-v0")
    assert by_key["training", "1", "loss", "training step", 4]["mean"] == 2.0
    assert by_key["checks", "", "DPT regret / ideal", "", None]["mean"] == 1.024


def test_a_table_is_the_same_as_text_and_as_a_frame(results, tmp_path):
    text = list(csv.DictReader(io.StringIO(results.csv())))
    frame = results.to_frame()
    assert list(frame.columns) == list(COLUMNS) and len(frame) == len(text) == len(results.rows())
    for column in ("mean", "low", "high"):
        told = [float(row[column]) if row[column] else math.nan for row in text]
        assert frame[column].tolist() == pytest.approx(told, nan_ok=True)
    results.to_csv(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == results.csv()


def test_figures_are_matplotlib_s_and_a_notebook_shows_them(results):
    figure = results.figure("regret")
    assert type(figure).__module__ == "matplotlib.figure" and figure._repr_png_()[:4] == b"\x89PNG"
    assert results.figures == ["online_regret", "offline_suboptimality", "cross_entropy", "training"]
    for name in ("nonsense", "o"):
        with pytest.raises(InputError, match="figure: got"):
            results.figure(name)


def test_what_makes_no_sense_is_refused(tmp_path):
    for call, words in (
        (lambda: icrl.run("dpt", on_row=3), "on_row"),
        (lambda: icrl.run(7), "experiment"),
        (lambda: icrl.run("dpt", nonsense=3, preset="smoke", out=tmp_path / "x"), "nonsense"),
        (lambda: icrl.pretrain("neural-bandits", preset="smoke", out=tmp_path / "x"), "experiment"),
        (lambda: icrl.read_results(tmp_path), "results.json"),
        (lambda: icrl.open_histories(tmp_path), str(tmp_path)),
    ):
        with pytest.raises(InputError, match=words):
            call()
    assert not (tmp_path / "x").exists()


def test_without_pandas_a_frame_is_refused_in_one_line(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="rows"):
        results.to_frame()
    assert isinstance(results, RunResults) and results.rows()
