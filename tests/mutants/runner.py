"""Runs mutants one by one: each is applied to a copy of package and tests, and its test runs there in its own process.

A script, so that what all of them import (jax, pytest, ... but nothing of ours) is imported once before the forks.
"""

import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from mutant import Mutant
from of_the_machinery import MACHINERY
from of_the_science import SCIENCE

ROOT = Path(__file__).parent.parent.parent
MUTANTS = (*SCIENCE, *MACHINERY)
SECONDS = 900  # of one test; what never ends is seen


def paths_and_words(mutant: Mutant) -> tuple[list[str], list[str]]:
    """Files below ``tests``, and the words behind -k."""
    paths, _, words = mutant.test.partition(" -k ")
    return shlex.split(paths), shlex.split(words)


def copied(place: Path) -> None:
    """Package and tests, under ``place``."""
    for name in ("icrl", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, place)


def import_what_all_need() -> None:
    """Before anything is forked; jax starts no threads by being imported."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))  # as tests/conftest.py has it
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.02")
    os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
    for name in ("gymnasium", "jax.numpy", "optax", "pytest", "scipy.stats"):
        __import__(name)
    for name in ("flax.nnx", "matplotlib.figure", "orbax.checkpoint", "rich.table", "tensorboardX"):
        __import__(name)
    from jax._src import xla_bridge

    assert not xla_bridge.backends_are_initialized()
    assert "icrl" not in sys.modules


def tested(place: Path, arguments: list[str]) -> int:
    """Exit code of pytest in a fork, in ``place``."""
    arguments = ["-n", "0", "-q", "-x", *arguments]
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setpgid(0, 0)
            os.chdir(place)
            log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1), os.dup2(log, 2)
            own = str(Path(__file__).parent)
            sys.path[:] = [str(place), *(each for each in sys.path if each not in ("", own, str(ROOT)))]
            os.environ["PYTHONPATH"] = str(place)
            import pytest

            code = int(pytest.main(arguments))
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return abs(os.waitstatus_to_exitcode(status))
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 1


def said_of(mutant: Mutant, place: Path) -> str:
    """ "seen" if the test fails with the fault, and passes without it; "missed" if it passes with it."""
    (paths, words), file = paths_and_words(mutant), place / "icrl" / mutant.file
    text = file.read_text()
    assert text.count(mutant.old) == 1
    file.write_text(text.replace(mutant.old, mutant.new))
    code = tested(place, [*(f"tests/{path}" for path in paths), *(["-k", *words] if words else [])])
    told = (place / "log").read_text()
    failed = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", told, re.MULTILINE)
    if code == 0 or not failed:
        return "missed" if code == 0 else f"not run, {code}: {told[-300:]}"
    file.write_text(text)
    return "seen" if tested(place, [failed[1]]) == 0 else f"{failed[1]} fails without the fault"


def main(root: Path, first: int, stride: int) -> None:
    import_what_all_need()
    for number in range(first, len(MUTANTS), stride):
        mutant, place = MUTANTS[number], root / str(number)
        copied(place)
        print(json.dumps({"mutant": f"{mutant.file}: {mutant.what}", "said": said_of(mutant, place)}), flush=True)
        shutil.rmtree(place)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
