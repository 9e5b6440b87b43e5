"""F7: a disk that is full at a random byte of a run, of a collection and of a report: one line, code 5, no harm.

The disk is a limit on the size of files, which needs no privileges: the write that passes it fails as it does on a full
disk. The trials are made by this file as a script, which forks the commands.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import sys
from pathlib import Path

import jax
import pytest
from forked_commands import ended, finished, forked, import_what_all_need, told_by
from small_runs import RUN, results
from trials import trials, verdict

DISKS = trials(50)
KINDS = ("run", "resume", "collect", "report")
SIZES = tuple(2**power for power in range(8, 19))  # bytes: of no file but the smallest, of all but the largest
PROGRESS = re.compile(r"(collecting|training seed \d+|evaluating): .*\n")


def in_a_full_disk(words: tuple[str, ...], size: int, log: Path) -> tuple[int, str]:
    """Exit code and stderr, but for its progress, of a command that writes no file beyond ``size`` bytes."""
    reader, writer = os.pipe()  # a pipe is never full of a few lines

    def before() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1), os.dup2(writer, 2)
        os.close(writer)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)  # read, and not written
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    child = forked(words, log, before)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    return ended(child), PROGRESS.sub("", text)


def words_of(kind: str, place: Path) -> tuple[str, ...]:
    """The command, on a copy of a run where it needs one."""
    if kind == "collect":
        return ("collect", "ad", "--preset", "smoke", "--num-tasks", "6", "--out", str(place))
    if kind == "report":
        return ("report", str(place))
    return (*RUN, "--out", str(place), *(["--resume"] if kind == "resume" else []))


def saves(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.glob("checkpoints/*/step-*")}


def trial(kind: str, size: int, whole: Path, root: Path) -> tuple[int, list[str]]:
    """Exit code of a command on a full disk, and what went wrong."""
    place, log, faults = root / "place", root / "log", []
    if kind in ("resume", "report"):
        shutil.copytree(whole, place)
    if kind == "resume":
        (place / "results.json").unlink()
    before = saves(place)
    code, said = in_a_full_disk(words_of(kind, place), size, log)
    if code not in (0, 5) or said.count("\n") > 1 or (code == 5 and not said.startswith("icrl: ")):
        faults.append(f"ends with {code}: {said[-1500:]}")
    if lost := before - saves(place):
        faults.append(f"lost {lost}")
    again = (*words_of(kind, place), *(["--resume"] if kind == "run" else []))
    if finished(again, log) or list(place.rglob(".icrl-tmp-*")):
        faults.append(f"does not go on: {log.read_text()[-800:]}")
    elif kind != "collect" and results(place) != results(whole):
        faults.append("ends differently")
    shutil.rmtree(place, ignore_errors=True)
    return code, faults


def child(root: Path, count: int) -> None:
    import_what_all_need()
    assert finished((*RUN, "--out", str(root / "whole")), root / "log") == 0, (root / "log").read_text()
    for number in range(count):
        kind, size = KINDS[number % len(KINDS)], random.Random(number).choice(SIZES)
        code, faults = trial(kind, size, root / "whole", root)
        print(json.dumps({"kind": kind, "size": size, "code": code, "faults": faults}), flush=True)


@pytest.mark.nightly
def test_f7_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    told = told_by(__file__, tmp_path, DISKS)
    print(f"\n{sum(each['code'] == 5 for each in told)} of {DISKS} were full", flush=True)
    assert len(told) == DISKS
    verdict("F7", DISKS, [each for each in told if each["faults"]])


if __name__ == "__main__":
    child(Path(sys.argv[1]), int(sys.argv[2]))
