"""``icrl bench``: every bench is a load that can be called again and again; rows are printed and written."""

import json

import jax
import pytest

from icrl.cli import main
from icrl.recipes import bench as module
from icrl.recipes.bench import BENCHES, Load, bench


@pytest.fixture
def brief(monkeypatch):
    """A bench of its own, of 10 units a call."""
    calls = []
    monkeypatch.setattr(module, "BENCHES", {"brief": ("ten units", lambda: Load(10, "units", lambda: calls.append(1)))})
    return calls


def test_rows_are_printed_and_written(brief, tmp_path, capsys):
    (row,) = bench(json=tmp_path / "rows.json")
    assert len(brief) == module.REPEATS + 1 and row.per_second > 0 and row.compile_seconds >= 0
    told = json.loads((tmp_path / "rows.json").read_text())
    assert told["rows"][0]["name"] == "brief" and told["versions"]["jax"] == jax.__version__
    assert "ten units" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["bandid"], ["room,"], ["--json", "."]])
def test_what_it_cannot_do_is_one_line(words, capsys):
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["bandit", "contexts", *(pytest.param(n, marks=pytest.mark.nightly) for n in BENCHES)])
def test_a_bench_can_be_called_again(name):
    load = BENCHES[name][1]()
    for _ in range(2):
        jax.block_until_ready(load.work())
    assert load.amount > 0
