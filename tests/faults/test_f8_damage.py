"""F8: flips, cuts, deletions and swaps of every kind of file of a run, met by every command that reads one.

A trial harms one thing in a copy of a finished run. ``verify`` must name it; then one of the commands that use the run
either ends in one line, or says what it passed over, or ends in the very results of the run that was not harmed.
"""

import logging
import random
import shutil
from pathlib import Path

import pytest
from small_runs import RUN, command, files, played, results
from trials import trials, verdict

from icrl.cli import main
from icrl.core.errors import IcrlError

FLIPS, CUTS, DELETIONS, SWAPS = trials(1000), trials(200), trials(50), trials(50)


class Passed(logging.Handler):
    """Remembers what was passed over with a warning."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def by_report(run):
    return command("report", run), results


def by_evaluate(run):
    return command("evaluate", run), results


def by_resume(run):
    return command(*RUN, "--seed", 0, "--out", run, "--resume"), results


def by_going_on(run):
    """Of a run that was killed in its evaluation."""
    (run / "results.json").unlink(missing_ok=True)
    return command(*RUN, "--seed", 0, "--out", run, "--resume"), results


def by_load_agent(run):
    try:
        found = played(run)
    except IcrlError as error:
        return (error.exit_code, f"icrl: {error}\n"), None
    return (0, ""), lambda _: found


ACTIONS = (by_report, by_evaluate, by_resume, by_going_on, by_load_agent)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run, and one with another seed."""
    root = tmp_path_factory.mktemp("f8")
    for seed in (0, 7):
        assert main([*RUN, "--seed", str(seed), "--out", str(root / str(seed))]) == 0
    return root / "0", root / "7"


def some_file(run: Path, chance: random.Random, by_size: bool) -> Path:
    """Any byte alike, or any file alike."""
    found = [path for path in files(run) if path.stat().st_size]
    weights = [path.stat().st_size if by_size else 1 for path in found]
    return chance.choices(found, weights)[0]


def flip(run, other, chance):
    path = some_file(run, chance, chance.random() < 0.5)
    data, place, bit = bytearray(path.read_bytes()), chance.randrange(path.stat().st_size), chance.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {place} of {path.relative_to(run)}"


def cut(run, other, chance):
    path = some_file(run, chance, chance.random() < 0.3)
    data = path.read_bytes()
    ends = [place + 1 for place in range(len(data) - 1) if data[place] == 10]  # of lines: hardest to see
    size = chance.choice(ends) if ends and chance.random() < 0.5 else chance.randrange(len(data))
    path.write_bytes(data[:size])
    return f"{path.relative_to(run)} cut to {size} of {len(data)}"


def parts(run: Path) -> list[Path]:
    """Files, and folders that are published whole."""
    return [*files(run), *sorted(run.glob("checkpoints/*/step-*")), *sorted(run.glob("data/*/tasks-*"))]


def delete(run, other, chance):
    path = chance.choice([*parts(run), *sorted(run.glob("data/*")), *sorted(run.glob("checkpoints/*"))])
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return f"without {path.relative_to(run)}"


def swap(run, other, chance):
    """Things of one kind change places, are taken from another run, or stand twice."""
    way = chance.choice(("foreign", "foreign", "exchange", "double", "last"))
    if way == "foreign":
        path = chance.choice([each for each in parts(run) if (other / each.relative_to(run)).exists()])
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        source = other / path.relative_to(run)
        shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)
        return f"{path.relative_to(run)} of another run"
    if way == "exchange":
        kinds = ("data/*/tasks-*", "data/*/tasks-*/*.npy", "checkpoints/*/step-*", "figures/*.png")
        several = [found for found in (sorted(run.glob(kind)) for kind in kinds) if len(found) > 1]
        one, two = chance.sample(chance.choice(several), 2)
        one.rename(run / "aside"), two.rename(one), (run / "aside").rename(two)
        return f"{one.relative_to(run)} and {two.relative_to(run)} exchanged"
    if way == "last":
        path = sorted(run.glob("data/*/tasks-*"))[-1]
        shutil.rmtree(path)
        return f"without {path.relative_to(run)}, the last"
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    place = chance.randrange(len(lines))
    (run / "metrics.jsonl").write_bytes(b"".join([*lines[: place + 1], *lines[place:]]))
    return f"row {place} twice"


def same_files(run: Path, whole: Path) -> bool:
    return {path.relative_to(run): path.read_bytes() for path in files(run)} == {
        path.relative_to(whole): path.read_bytes() for path in files(whole)
    }


@pytest.mark.nightly
@pytest.mark.parametrize(("harm", "count"), [(swap, SWAPS), (delete, DELETIONS), (cut, CUTS), (flip, FLIPS)])
def test_f8_no_damage_is_silent(runs, tmp_path, monkeypatch, harm, count):
    for module in ("report", "tensorboard"):  # most of the time, and nothing that is asked here
        monkeypatch.setattr(f"icrl.reports.{module}.draw_figures", lambda results: {})
    run, other = runs
    whole = {None: played(run), results: results(run)}
    passed, faults = Passed(), []
    logging.getLogger("icrl").addHandler(passed)
    for number in range(count):
        chance, copy = random.Random(f"{harm.__name__} {number}"), tmp_path / "copy"
        shutil.copytree(run, copy)
        told, action = harm(copy, other, chance), ACTIONS[number % len(ACTIONS)]
        if not same_files(copy, run):
            faults += [(number, told, fault) for fault in trial(copy, whole, action, passed, told)]
        shutil.rmtree(copy)
        if number % 50 == 49:
            print(f"F8 {harm.__name__}: {len(faults)} faults in {number + 1}", flush=True)
    logging.getLogger("icrl").removeHandler(passed)
    verdict(f"F8 {harm.__name__}", count, faults)


def trial(copy, whole, action, passed, told):
    """What goes wrong in one."""
    try:
        code, said = command("verify", copy)
        lost = not (copy / "config.json").exists()  # then it is no run, and the refusal says so
        older = (
            "checkpoints/" in told and told.endswith("step-00000002") and told.startswith("without")
        )  # may be removed
        if (code not in ((2,) if lost else (3, 6)) or said.count("\n") != 1) and not older:
            yield "verify", code, said
        passed.lines.clear()
        (code, said), outcome = action(copy)
        if code:
            if code not in (2, 3, 6) or [line[:6] for line in said.splitlines()].count("icrl: ") != 1:
                yield action.__name__, code, said
        elif outcome(copy) != whole.get(outcome, whole[None]) and not passed.lines:
            yield action.__name__, "silent"
    except Exception as error:
        yield action.__name__, repr(error)
