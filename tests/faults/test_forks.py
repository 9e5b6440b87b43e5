"""A process forked after jax had started says so in a sentence; without that it would wait for ever."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, warnings
from pathlib import Path

warnings.simplefilter("ignore")  # jax warns that a fork may hang: that is what is tried here
import gymnasium
import jax.numpy as jnp
import numpy as np

import icrl
from icrl.cli import main

first, action, root = sys.argv[1:]
if first == "import":  # our modules and an environment before the fork, not only gymnasium's list of names
    env = gymnasium.make("icrl:icrl/GaussianBandit-v0")
jnp.zeros(3).block_until_ready()


def fit():
    from icrl.training.fit import fit

    fit(None, None, None, None, Path(root), key=None)


ACTIONS = {
    "make": lambda: gymnasium.make("icrl:icrl/GaussianBandit-v0").reset(seed=0),
    "make_vec": lambda: gymnasium.make_vec("icrl:icrl/GaussianBandit-v0", 2).reset(seed=0),
    "reset": lambda: env.reset(seed=0),
    "fit": fit,
    "collect": lambda: main(["collect", "dpt-bandit", "--preset", "smoke", "--num-tasks", "32", "--out", root + "/a"]),
    "run": lambda: main(["run", "dpt-bandit", "--preset", "smoke", "--out", root + "/b"]),
}
if os.fork() == 0:
    signal.alarm(20)  # whatever waits for ever
    try:
        print(ACTIONS[action](), flush=True)
    except icrl.core.errors.InputError as error:
        print(error, file=sys.stderr, flush=True)
        print(error.exit_code, flush=True)
    os._exit(0)
_, status = os.wait()
sys.exit(os.waitstatus_to_exitcode(status))
"""
BY_DAY = {("import", "reset"), ("late", "make_vec")}
CASES = [
    pytest.param(first, action, marks=[pytest.mark.nightly] * ((first, action) not in BY_DAY))
    for first in ("import", "late")
    for action in ("make", "make_vec", "reset", "fit", "collect", "run")
    if (first, action) != ("late", "reset")
]


@pytest.mark.parametrize(("first", "action"), CASES)
def test_work_in_a_fork_of_a_process_in_which_jax_has_started_is_refused(first, action, tmp_path):
    command = [sys.executable, "-c", PROGRAM, first, action, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert done.stderr.count("\n") == 1 and "was forked after jax had started" in done.stderr
    assert not list(tmp_path.iterdir())
