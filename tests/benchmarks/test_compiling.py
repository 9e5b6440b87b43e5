"""``benchmarks/compiling.py``: seconds go to the phase that they were spent in, and what is kept can be drawn."""

import json
import sys

import compile_costs
import compiling
import pytest

TRACING, LOWERING, XLA = compiling.PHASES


def test_of_a_phase_inside_another_the_outer_has_what_is_left(monkeypatch):
    ticks = iter([0.0, 1.0, 2.0, 4.0, 7.0, 12.0])
    monkeypatch.setattr(compiling.time, "process_time", lambda: next(ticks))
    meter = compiling.Meter()
    for event in (TRACING, LOWERING, XLA):
        meter.began(event, 0.0, fun_name="f")
    for event in (XLA, LOWERING, TRACING):
        meter.ended(event, 0.0, fun_name="f")
    meter.began("/jax/another", 0.0)
    meter.ended("/jax/another", 0.0)
    assert meter.cpu == {"tracing": 6.0, "lowering": 4.0, "xla": 2.0} and meter.events[XLA] == 1


def document(day, **row):
    head = {"schema": 1, "set": "compiling", "device": "2 x cpu", "cores": 1, "versions": {"jax": "1"}, "date": day}
    return {**head, "rows": [{"name": "dpt-bandit", "load": 1.0, **row}]}


def test_the_newest_measurement_is_shown():
    def runs(xla):
        cpu = {"tracing": 1.0, "lowering": 0.5, "xla": xla, "run": 10.0}
        return {"first": {"programs": 7, "cpu": cpu}, "again": {"cpu": {"run": 4.0}}}

    days = [document("d1", **runs(5.0)), document("d2", **runs(6.0)), document("d3", failed="no such preset")]
    (table,) = compile_costs.tables(days)
    assert "| `dpt-bandit` | 7 | 1.5 | 6.0 | 10.0 | 0.75 | 4.0 | d2, jax 1, load 1 |" in table and "d1" not in table


def test_a_run_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(compiling.subprocess, "run", lambda *_, **__: Failed())
    row = compiling.row_of("dpt-bandit --width 0")
    assert row["failed"] == "icrl: width: got 0" and compiling.told(row).endswith("got 0")


class Failed:
    returncode, stdout, stderr = 2, "", "a warning\nicrl: width: got 0\n"


@pytest.mark.nightly
def test_a_run_is_measured_twice(tmp_path, monkeypatch, capsys):
    """The second finds the programs that took long."""
    path = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["compiling.py", "dpt-bandit --train-steps 2", "--json", str(path)])
    assert compiling.main() == 0 and "programs" in capsys.readouterr().out
    (row,) = json.loads(path.read_text())["rows"]
    first, again = row["first"], row["again"]
    assert again["read"] > 0 == first["read"] and again["programs"] + again["read"] == first["programs"]
    assert again["cpu"]["run"] < first["cpu"]["run"] and first["cpu"]["xla"] > 0
