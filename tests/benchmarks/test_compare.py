"""``benchmarks/compare.py``: two sides in turns, a row that fails is one line, and what is kept can be drawn."""

import inspect
import json
import subprocess
import sys

import compare
import comparisons
import interpreters
import ours
import pages
import pytest
import rows
import sides

from icrl.recipes.bench import training

BENCHMARKS = pages.ROOT / "benchmarks"
SIDE = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS / "peers")!r})
from turns import serve, settings
given = settings()
print("a library greets")

def work():
    with open(given["log"], "a") as log:
        log.write(given["name"])

serve(work, given["amount"], "things", tells={{"amount": 30}})
"""


@pytest.fixture
def side(tmp_path, monkeypatch):
    """The words that start a side, and its settings as one or the other; a turn is one call."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    program = tmp_path / "side.py"
    program.write_text(SIDE.replace("serve(work", "import turns\nturns.MOST_CALLS = 1\nserve(work"))
    log = str(tmp_path / "log")
    tells = {name: {"log": log, "name": name[0], "amount": 10} for name in ("ours", "peer")}
    return (sys.executable, str(program)), tells, tmp_path / "log"


def test_sides_take_turns_and_the_peer_is_told_what_ours_tells(side):
    words, tells, log = side
    own, theirs = sides.in_turns(words, words, tells, turns=3, limit=60)
    assert log.read_text() == "oo" + "pp" + "op" * 3  # the first two calls of each are no turns
    assert (own["amount"], theirs["amount"]) == (10, 30) and len(own["turns"]) == len(theirs["turns"]) == 3
    assert all(turn["seconds"] > 0 and turn["peak_kib"] > 0 for turn in own["turns"])


def test_a_ratio_is_of_rates_and_in_pairs():
    own = {"amount": 10, "turns": [{"seconds": each} for each in (1.0, 2.0, 9.0)]}
    peer = {"amount": 30, "turns": [{"seconds": each} for each in (6.0, 12.0, 9.0)]}
    assert compare.ratio(own, peer, "seconds") == 2.0  # medians 6 of the seconds, a third of the work


def test_a_row_says_its_share_of_the_peak_and_the_minutes_of_a_paper():
    own = {"amount": 10, "per_second": 100.0, "flops": 5 * 10**12, "train_steps": 600}
    assert (
        compare.more([own, {"amount": 10, "per_second": 50.0}], 100e12) == "50 and 25 TFLOP/s, 50.0% and 25.0% of peak"
    )
    assert compare.more([own], None) == "600 steps of a model in 1 minutes" and compare.more([own, own], None) == ""
    assert compare.peak_of("1 x NVIDIA H200") == 989e12 and compare.peak_of("1 x cpu") is None


@pytest.mark.parametrize(
    "program, limit, why",
    [("raise ValueError('no such card')", 60, "no such card"), ("import time; time.sleep(60)", 1, "longer than 1 sec")],
)
def test_a_side_that_does_not_answer_says_why(side, tmp_path, program, limit, why):
    words, tells, _ = side
    (tmp_path / "other.py").write_text(program)
    with pytest.raises(sides.Failed, match=why) as caught:
        sides.in_turns(words, (sys.executable, str(tmp_path / "other.py")), tells, turns=1, limit=limit)
    assert "\n" not in str(caught.value)


def test_what_pip_cannot_install_is_one_line():
    with pytest.raises(interpreters.NotInstalled, match=r"not installed: ERROR: no such version$"):
        interpreters._run(sys.executable, "-c", "import sys; sys.exit('ERROR: no such version\\nsee the log')")


def test_a_failure_names_no_folder_of_this_machine(tmp_path):
    told = compare.unmeasured(
        rows.CPU[0], f"side.py: cannot load {tmp_path}/lib/torch.so, as {sys.prefix}/x is not there"
    )
    assert "/" not in told["failed"] and "torch.so" in told["failed"]


def test_the_driver_leaves_the_device_to_the_sides():
    """One that has seen a GPU holds most of its memory."""
    look = "import sys; sys.argv = ['', '--rows', 'none']; import compare; compare.main(); compare.described()"
    look += "; from jax._src import xla_bridge; sys.exit(xla_bridge.backends_are_initialized())"
    assert subprocess.run([sys.executable, "-c", look], cwd=BENCHMARKS, capture_output=True).returncode == 0


def every_row():
    return [row for each in rows.SETS.values() for row in each]


def test_rows_name_sides_and_peers_that_exist_in_settings_that_they_take():
    for row in every_row():
        inspect.signature(ours.SIDES[row.side]).bind(**{**row.settings, **row.ours})
        assert row.peer in ("", "ours") or (BENCHMARKS / "peers" / f"{row.peer}.py").is_file()
        packages = rows.PEERS[row.peer][0] if row.peer else ""
        assert not packages or (BENCHMARKS / "peers" / f"{packages}.txt").is_file()
    names = [row.name for row in every_row()]
    assert len({*names}) == len(names) - 2  # two games of popgym stand in two sets


def test_packages_are_pinned():
    for path in (BENCHMARKS / "peers").glob("*.txt"):
        assert all("==" in line for line in path.read_text().splitlines()), path.name


def test_a_row_that_fails_leaves_the_others(tmp_path, monkeypatch, capsys):
    """Two processes of jax: the only rows of the day that are real."""
    good = next(row for row in rows.CPU if row.name == "bandit-ucb")
    wrong = rows.Row("wrong", "nothing", "agent", ours={"env": "Darkroom-v0", "agent": "ucb", "steps": 1, "count": 1})
    monkeypatch.setitem(rows.SETS, "cpu", (wrong, good))
    path = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["compare.py", "--smoke", "--turns", "2", "--json", str(path)])
    assert compare.main() == 0
    told = json.loads(path.read_text())
    first, second = told["rows"]
    assert "DarkRoom-v0" in first["failed"] and second["ratio"] > 0 and second["cpu_ratio"] > 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    (table,) = comparisons.tables([told])
    assert "NumPy" in table and "DarkRoom-v0" in table and table.count("\n") == 5


def test_what_is_kept_can_be_drawn():
    assert "ratio" in comparisons.listing("all")


def test_the_newest_measurement_of_a_row_is_shown():
    def document(day, **result):
        row = {"name": "a", "what": "a thing", "beside": "", "note": "", "load": 1.0, **result}
        head = {"schema": 1, "device": "2 x cpu", "cores": 1, "versions": {"jax": "1"}, "date": day}
        return {**head, "rows": [row]}

    done = [{"ours": {"per_second": rate, "unit": "steps", "first_cpu_seconds": 1.0}} for rate in (5.0, 7.0)]
    days = [document("d1", **done[0]), document("d2", **done[1]), document("d3", failed="no time left")]
    (table,) = comparisons.tables(days)
    assert "7 steps" in table and "5 steps" not in table and "d3" not in table and "2 x cpu, kept to 1" in table


@pytest.mark.nightly
def test_the_script_for_a_gpu_runs(tmp_path):
    path = tmp_path / "gpu.json"
    subprocess.run([BENCHMARKS / "gpu.sh", "--smoke", path], check=True, timeout=1500)
    told = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in told] == [row.name for row in rows.GPU]
    absent = ["peers/torch"]  # PyTorch may not be there
    if "seeds" not in inspect.signature(training).parameters:
        absent.append("ours.py: TypeError: training")
    for row in told:
        assert "ours" in row or row["failed"].startswith(tuple(absent)), row
