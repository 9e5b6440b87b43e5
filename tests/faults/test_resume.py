"""A pretraining run that is killed, stopped or poisoned: resumed it ends in the same bits, and nothing bad is kept."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.experiments.dpt_bandit import DPTBandit
from icrl.recipes.data import RunData
from icrl.storage import checkpoints
from icrl.storage.metrics_log import read_jsonl
from icrl.training.fit import Diverged, fit, restore
from icrl.training.step import FitSettings

STEPS = 200
COMMAND = [sys.executable, "-m", "icrl", "run", "dpt-bandit", "--preset", "smoke", "--train-steps", str(STEPS)]
COMMAND += ["--eval-tasks", "10", "--competitors", "posterior-gaussian"]
COMMAND += ["--offline-tasks", "10", "--offline-competitors", "posterior-gaussian"]


def start(folder: Path, *flags: str, save_every: int = 45) -> subprocess.Popen:
    command = [*COMMAND, "--save-every", str(save_every), "--out", str(folder), *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_step(child: subprocess.Popen, folder: Path, step: int) -> None:
    """Until a row of at least ``step`` is on disk (or the child has ended)."""
    metrics = folder / "metrics.jsonl"
    while child.poll() is None:
        if metrics.exists() and any(json.loads(line)["step"] >= step for line in metrics.read_text().splitlines()[:-1]):
            return
        time.sleep(0.002)


def finish(child: subprocess.Popen, code: int) -> str:
    """What the child wrote to stderr, after it has ended with ``code``."""
    _, errors = child.communicate(timeout=300)
    assert child.returncode == code, errors
    return errors


def outcome(folder: Path) -> tuple[dict[str, bytes], list[dict]]:
    """Final parameters by leaf, and the metric rows without the one field that tells time."""
    settings = DPTBandit.presets["smoke"]
    policy = restore(FitSettings(log_every=10), settings.new_policy(0, 0), folder, 0)
    leaves = jax.tree_util.tree_leaves_with_path(policy.params)
    rows = [
        {k: v for k, v in row.items() if k not in ("steps_per_second", "crc")}
        for row in read_jsonl(folder / "metrics.jsonl")
    ]
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}, rows


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(folder), 0)
    return outcome(folder)


@pytest.mark.parametrize("trial", [0, *(pytest.param(n, marks=pytest.mark.nightly) for n in range(1, 20))])
def test_sigkill_at_a_random_moment_then_resume(tmp_path, undisturbed, trial):
    folder, rng = tmp_path / "run", random.Random(trial)
    child = start(folder)
    wait_for_step(child, folder, rng.randrange(10, STEPS, 10))
    time.sleep(rng.random() * 0.05)
    child.kill()
    finish(child, -signal.SIGKILL)
    finish(start(folder, "--resume"), 0)
    assert outcome(folder) == undisturbed


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.nightly)]
)
def test_a_signal_saves_the_current_step_and_exits(tmp_path, undisturbed, number, code):
    folder = tmp_path / "run"
    child = start(folder, save_every=1000)
    wait_for_step(child, folder, 10)
    os.kill(child.pid, number)
    assert "saved, continue with --resume" in finish(child, code).splitlines()[-1]
    assert checkpoints.steps(folder / "checkpoints" / "seed-0")[-1] >= 10
    finish(start(folder, "--resume", save_every=1000), 0)
    assert outcome(folder) == undisturbed


def smoke_fit(folder: Path, batches=None) -> None:
    settings = DPTBandit.presets["smoke"]
    batches = batches or RunData(folder, 0).batches(settings, 0)
    fit(settings.fit, settings.new_policy(0, 0), settings.objective(), batches, folder, key=jax.random.key(0))


def test_a_poisoned_batch_stops_the_run_by_name_and_leaves_the_last_good_checkpoint(tmp_path):
    clean = RunData(tmp_path, 0).batches(DPTBandit.presets["smoke"], 0)

    def poisoned(step: int):
        batch = clean(step)
        if step == 26:
            reward = batch.history.reward.at[3, 4].set(jnp.nan)
            return batch._replace(history=batch.history._replace(reward=reward))
        return batch

    with pytest.raises(Diverged, match="at step 27"):
        smoke_fit(tmp_path, poisoned)
    assert checkpoints.steps(tmp_path / "checkpoints" / "seed-0") == [20]
    smoke_fit(tmp_path)  # with the data mended, the run goes on
    assert [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [10, 20, 30, 40]
