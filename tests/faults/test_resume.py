"""A pretraining run that is killed, stopped or poisoned: resumed it ends in the same bits, and nothing bad is kept."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import DamagedError
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.recipes.data import RunData
from icrl.storage import checkpoints
from icrl.storage.metrics_log import OF_MACHINE, append_jsonl, read_jsonl
from icrl.storage.run_folder import open_run_folder
from icrl.training.fit import Fit, fit
from icrl.training.loop import Diverged, restore
from icrl.training.step import FitSettings
from icrl.training.stopping import Interrupted

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
    policy = restore(Fit(FitSettings(log_every=10), settings.new_policy(0, 0), settings.objective()), folder, 0)
    leaves = jax.tree_util.tree_leaves_with_path(policy.params)
    rows = [
        {k: v for k, v in row.items() if k not in (*OF_MACHINE, "crc")} for row in read_jsonl(folder / "metrics.jsonl")
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


def test_a_signal_in_the_last_step_is_heeded_too(tmp_path):
    """What comes behind training may take long."""
    smoke = DPTBandit.presets["smoke"]
    clean, last = RunData(tmp_path, 0).batches(smoke, 0), smoke.fit.train_steps

    def signalled(step: int):
        if step == last - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return clean(step)

    with pytest.raises(Interrupted, match=f"stopped by SIGTERM after step {last} of {last}; saved"):
        smoke_fit(tmp_path, signalled)
    assert checkpoints.steps(tmp_path / "checkpoints" / "seed-0")[-1] == last
    smoke_fit(tmp_path)  # nothing is left to do


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


# --- Whose checkpoints, and which rows ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a config, in which a model has been trained to its end; and what it has learned."""
    folder = open_run_folder(tmp_path_factory.mktemp("trained") / "run", {"seed": 0}, False)
    smoke_fit(folder)
    return folder


@pytest.fixture
def mine(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "mine")
    return tmp_path / "mine"


def damaged(action, match: str) -> None:
    with pytest.raises(DamagedError, match=match) as caught:
        action()
    assert "\n" not in str(caught.value) and caught.value.exit_code == 3


def smoke_restore(folder: Path, seed: int = 0):
    settings = DPTBandit.presets["smoke"]
    return restore(Fit(settings.fit, settings.new_policy(0, 0), settings.objective()), folder, seed)


def test_a_finished_run_is_taken_up_again(mine):
    smoke_fit(mine)
    smoke_restore(mine)
    assert len(read_jsonl(mine / "metrics.jsonl")) == 4


@pytest.mark.parametrize("action", [smoke_fit, smoke_restore])
def test_checkpoints_of_another_run_are_refused(mine, tmp_path, action):
    other = open_run_folder(tmp_path / "other", {"seed": 7}, False)
    for name in ("checkpoints", "metrics.jsonl"):
        (mine / name).rename(other / name)
    message = (
        "step-00000040: is a checkpoint of another run: run expected '[0-9a-f]{16}', found '[0-9a-f]{16}'; settings"
    )
    damaged(lambda: action(other), message)


def test_checkpoints_of_another_model_of_the_run_are_refused(mine):
    saves = mine / "checkpoints"
    shutil.copytree(saves / "seed-0", saves / "seed-1")
    damaged(lambda: smoke_restore(mine, 1), "another run: seed expected 1, found 0")


def test_checkpoints_without_a_run_are_not_those_of_a_run(mine, tmp_path):
    (tmp_path / "loose").mkdir()
    smoke_fit(tmp_path / "loose")
    shutil.rmtree(mine / "checkpoints")
    shutil.copytree(tmp_path / "loose" / "checkpoints", mine / "checkpoints")
    damaged(lambda: smoke_fit(mine), "another run: run expected '[0-9a-f]{16}', found None")


@pytest.mark.parametrize("action", [smoke_fit, smoke_restore])
@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_record_that_lost_its_tail_is_refused(mine, left, action):
    lines = (mine / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (mine / "metrics.jsonl").write_bytes(b"".join(lines[:left]))
    damaged(lambda: action(mine), rf"metrics\.jsonl: expected 4 rows of seed 0 up to step 40 .*, found {left} ")


def test_a_record_that_is_gone_is_refused_where_training_goes_on(mine):
    (mine / "metrics.jsonl").unlink()
    smoke_restore(mine)  # a model that was handed on without its record acts
    damaged(lambda: smoke_fit(mine), "expected 4 rows of seed 0 up to step 40 .*, found 0 ")
    assert not (mine / "metrics.jsonl").exists()


def test_a_model_older_than_its_record_acts_with_a_warning(mine, caplog):
    """Its newest checkpoint is gone."""
    before = sorted((mine / "checkpoints" / "seed-0").iterdir())
    smoke_restore(mine)
    assert not caplog.text
    shutil.rmtree(before[-1])
    smoke_restore(mine)
    assert "its newest checkpoint is of step 20 of 40" in caplog.text


def test_a_record_of_other_numbers_is_refused(mine):
    """Written by this package, but not by this run."""
    rows = read_jsonl(mine / "metrics.jsonl")
    (mine / "metrics.jsonl").unlink()
    append_jsonl(mine / "metrics.jsonl", [{**row, "loss": row["loss"] / 10} for row in rows])
    damaged(lambda: smoke_fit(mine), "expected 4 rows .*, found 4 ")


def test_rows_of_other_models_do_not_matter_to_a_model(mine):
    append_jsonl(mine / "metrics.jsonl", [{"seed": 1, "step": 10, "loss": 1.0}])
    smoke_fit(mine)
    assert len(read_jsonl(mine / "metrics.jsonl")) == 5


def test_a_run_that_fell_back_to_an_earlier_checkpoint_goes_on_to_the_same_record(mine):
    newest = sorted((mine / "checkpoints" / "seed-0").iterdir())[-1]
    (newest / "manifest.json").write_bytes(b"{}")
    append_jsonl(mine / "metrics.jsonl", [{"seed": 1, "step": 10, "loss": 1.0}])
    smoke_fit(mine)
    smoke_fit(mine)
    rows = read_jsonl(mine / "metrics.jsonl")
    assert [(row["seed"], row["step"]) for row in rows] == [(0, 10), (0, 20), (1, 10), (0, 30), (0, 40)]
