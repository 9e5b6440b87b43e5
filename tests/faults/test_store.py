"""Stored data under attack: a collector that is killed, and shards that are damaged, missing, swapped or half there."""

import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from icrl.cli import main
from icrl.datasets import histories as module
from icrl.datasets import store
from icrl.datasets.store import StoredRecords, store_records
from icrl.storage import publish as artifacts
from icrl.storage.publish import MANIFEST

TASKS, SHARD_STEPS = 12, 8 * 60  # a shard for each task
COLLECT = ["collect", "ad-darkroom", "--preset", "smoke", "--history-steps", "60", "--num-tasks", str(TASKS)]
CHILD = f"""
import sys
from icrl.cli import main
from icrl.datasets import histories
histories.SHARD_STEPS = {SHARD_STEPS}
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The digest of a collection that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD_STEPS", SHARD_STEPS)
        assert main([*COLLECT, "--out", str(folder)]) == 0
    return StoredRecords(folder).digest


def published(folder: Path) -> list[Path]:
    return sorted(folder.glob("tasks-*"))


@pytest.mark.parametrize("trial", [0, *(pytest.param(n, marks=pytest.mark.nightly) for n in range(1, 20))])
def test_a_collector_killed_at_a_random_moment_goes_on_to_the_same_digest(tmp_path, monkeypatch, undisturbed, trial):
    rng, folder = random.Random(trial), tmp_path / "data"
    child = subprocess.Popen([sys.executable, "-c", CHILD, *COLLECT, "--out", str(folder)], stderr=subprocess.DEVNULL)
    enough = rng.randrange(1, TASKS)
    while child.poll() is None and len(published(folder)) < enough:
        time.sleep(0.001)
    time.sleep(rng.random() * 0.02)
    child.kill()
    assert child.wait(60) == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in published(folder)}
    assert enough <= len(before) < TASKS
    monkeypatch.setattr(module, "SHARD_STEPS", SHARD_STEPS)
    assert main([*COLLECT, "--out", str(folder)]) == 0
    assert StoredRecords(folder).digest == undisturbed
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # what was there was not made again
    assert not list(folder.glob(".icrl-tmp-*"))


def records(seed: int, ids: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": np.stack([np.random.default_rng([seed, i]).random(50) for i in ids])}


def collect(folder: Path, seed: int = 0) -> None:
    """Three shards of two tasks each."""
    store_records(folder, partial(records, seed), 6, {"seed": seed}, 2)


@pytest.fixture
def folder(tmp_path):
    collect(tmp_path / "data")
    return tmp_path / "data"


def cut(folder):
    path = published(folder)[1] / "x.npy"
    path.write_bytes(path.read_bytes()[:-8])


def flip(folder):
    path = published(folder)[1] / "x.npy"
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


def lose(folder):
    shutil.rmtree(published(folder)[1])


def lose_a_file(folder):
    (published(folder)[1] / "x.npy").unlink()


def stop_before_the_manifest(folder):
    (published(folder)[1] / MANIFEST).unlink()


def exchange(folder):
    """Two shards of the same shapes, each intact, under each other's names."""
    first, second, _ = published(folder)
    first.rename(folder / "aside")
    second.rename(first)
    (folder / "aside").rename(second)


def bring_from_elsewhere(folder):
    """An intact shard of the same tasks and shapes, but of a set with another seed."""
    other = folder.parent / "other"
    collect(other, seed=1)
    lose(folder)
    stranger = published(other)[1]
    shutil.copytree(stranger, folder / stranger.name)


def copy_under_another_name(folder):
    shutil.copytree(published(folder)[1], folder / f"{published(folder)[1].name} (1)")


def write_a_shard_with_a_newer_version(folder):
    lose(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "SCHEMA", 2)
        collect(folder)


def begin_with_a_newer_version(folder):
    shutil.rmtree(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "FORMAT", 2)
        collect(folder)


@pytest.mark.parametrize(
    ("harm", "code", "said"),
    [
        (flip, 3, "x.npy: sha256: expected"),
        (cut, 3, "x.npy: size: expected"),
        (lose, 3, "shards are missing, found tasks-0000000000-0000000002, tasks-0000000004"),
        (lose_a_file, 3, "x.npy: expected 928 bytes, found no such file"),
        (stop_before_the_manifest, 3, "tasks-0000000002-0000000004/manifest.json: expected a manifest, found none"),
        (exchange, 3, "tasks-0000000000-0000000002: low: expected 0, found 2"),
        (bring_from_elsewhere, 3, "tasks-0000000002-0000000004: card: expected"),
        (copy_under_another_name, 3, "found another name"),
        (write_a_shard_with_a_newer_version, 2, "manifest.json: schema: got 2, allowed: 1"),
        (begin_with_a_newer_version, 2, "card.json: format: got 2, allowed: 1"),
    ],
)
def test_harmed_shards_are_refused_in_one_line(folder, capsys, harm, code, said):
    assert main(["verify", str(folder)]) == 0
    harm(folder)
    capsys.readouterr()
    assert main(["verify", str(folder)]) == code
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error
