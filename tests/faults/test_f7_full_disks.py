"""F7: a disk that is full at a random byte of a run, of a collection and of a report: one line, code 5, no harm.

The disk is a limit on the size of files (``ulimit -f`` in blocks of 512 bytes or more), which needs no privileges: the
write that passes it fails as it does on a full disk. Every trial is a process of its own.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys

import pytest
from small_runs import RUN, files, results
from trials import trials, verdict

from icrl.cli import main

DISKS = trials(50)
KINDS = ("run", "resume", "collect", "report")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("f7") / "run"
    assert main([*RUN, "--out", str(folder)]) == 0
    return folder


def limited(size: int):
    """To be called in the child: writes beyond ``size`` bytes of a file fail, and nothing kills the process."""

    def before():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return before


def called(words, size: int | None = None) -> tuple[int, str]:
    command = [sys.executable, "-m", "icrl", *map(str, words)]
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0" if size else "1"}  # its files are not ours
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=limited(size) if size else None,
    )  # fmt: skip
    return done.returncode, done.stderr


def words_of(kind: str, place) -> list:
    """The command, on a copy of a run where it needs one."""
    if kind == "collect":
        return ["collect", "ad", "--preset", "smoke", "--num-tasks", 12, "--out", place]
    return (
        ["report", place] if kind == "report" else [*RUN, "--out", place, *(["--resume"] if kind == "resume" else [])]
    )


@pytest.mark.nightly
def test_f7_a_full_disk_is_one_line_and_loses_nothing(run, tmp_path):
    faults, full = [], 0
    for number in range(DISKS):
        chance, place = random.Random(number), tmp_path / "place"
        kind, size = KINDS[number % len(KINDS)], chance.choice((1, 2, 4, 8, 16, 32, 64)) * 512
        if kind in ("resume", "report"):
            shutil.copytree(run, place)
        if kind == "resume":
            (place / "results.json").unlink()
        words = words_of(kind, place)
        code, said = called(words, size)
        full += code == 5
        told = [line for line in said.splitlines() if line.startswith("icrl: ")]
        if code not in (0, 5) or "Traceback" in said or (code == 5) != (len(told) == 1):
            faults.append((kind, size, code, said[-1500:]))
        again = [*words, "--resume"] if kind == "run" else words
        code, said = called(again)
        if code or list(place.rglob(".icrl-tmp-*")):
            faults.append((kind, size, "goes on with", code, said[-500:]))
        elif kind != "collect" and results(place) != results(run):
            faults.append((kind, size, "ends differently"))
        assert files(place)
        shutil.rmtree(place)
    print(f"\n{full} of {DISKS} were full", flush=True)
    verdict("F7", DISKS, faults)
