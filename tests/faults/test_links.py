"""Links below a folder that is written into are refused before anything is written; strays of killed writers go."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from published import one_line

from icrl.core.errors import DamagedError, InputError
from icrl.datasets.store import StoredRecords, store_records
from icrl.reports.tensorboard import write_tensorboard
from icrl.storage.checkpoints import save
from icrl.storage.lock import RunLock
from icrl.storage.views import replacing_files

STRAY = ".icrl-tmp-0123456789abcdef"
EVENTS = "events.out.tfevents.1.precious"


@pytest.fixture
def elsewhere(tmp_path):
    """A folder outside with what must not be touched."""
    place = tmp_path / "elsewhere"
    (place / "evaluation").mkdir(parents=True)
    for folder in (place, place / "evaluation"):
        (folder / EVENTS).write_bytes(b"precious")
    yield place
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == {
        place / EVENTS: b"precious",
        place / "evaluation" / EVENTS: b"precious",
    }


def refused(action, kind=InputError) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert "link" in one_line(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["tensorboard", "tensorboard/evaluation", "figures", "checkpoints", "checkpoints/seed-0", "data", "data/a/b"],
)
def test_a_link_below_a_run_is_refused_when_its_lock_is_taken(tmp_path, elsewhere, name):
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    (tmp_path / "run" / STRAY).write_bytes(b"")
    assert name in refused(RunLock(tmp_path / "run", "x").__enter__)
    assert (tmp_path / "run" / STRAY).exists(), "something was removed although the folder is refused"
    link.unlink()
    with RunLock(tmp_path / "run", "x"):  # the lock is free again, and takes the stray away
        assert not (tmp_path / "run" / STRAY).exists()


def test_writers_refuse_links_on_their_own(tmp_path, elsewhere):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("tensorboard", "checkpoints", "data"):
        (run / name).symlink_to(elsewhere)
    refused(lambda: write_tensorboard(run / "tensorboard", []))
    refused(lambda: save(run / "checkpoints", 1, {"x": jnp.ones(1)}))
    (run / "tensorboard").unlink()
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "evaluation").symlink_to(elsewhere / "evaluation")
    refused(lambda: write_tensorboard(run / "tensorboard", []))


def test_a_run_folder_may_itself_be_reached_by_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "real")
    with RunLock(tmp_path / "latest", "x"):
        assert (tmp_path / "real" / ".lock").exists()


def store(folder: Path, num_tasks: int = 4) -> None:
    store_records(folder, lambda ids: {"x": np.asarray(ids)}, num_tasks, {}, 2)


def test_a_shard_that_is_a_link_is_refused(tmp_path):
    store(tmp_path / "a")
    store(tmp_path / "b")
    shard = next((tmp_path / "a").glob("tasks-*"))
    shard.rename(tmp_path / "aside")
    shard.symlink_to(tmp_path / "b" / shard.name)
    for verify in (True, False):
        refused(lambda verify=verify: StoredRecords(tmp_path / "a", verify), DamagedError)
    refused(lambda: store(tmp_path / "a", 6))


# --- Strays ---


def test_every_folder_of_a_run_is_swept_when_its_lock_is_taken(tmp_path):
    names = ("", "figures", "data", "checkpoints", "checkpoints/seed-0", "tensorboard", "tensorboard/seed_0")
    for name in names:
        (tmp_path / name / STRAY).mkdir(parents=True)
        (tmp_path / name / STRAY / "half").write_bytes(b"")
    with RunLock(tmp_path, "x"):
        assert not list(tmp_path.rglob(".icrl-tmp-*"))


def test_a_folder_with_a_lock_of_its_own_is_left_to_its_holder(tmp_path):
    """Somebody may be collecting there now."""
    data = tmp_path / "data" / "source-1"
    data.mkdir(parents=True)
    with RunLock(data, "collect"):
        (data / STRAY).mkdir()
        with RunLock(tmp_path, "run"):
            assert (data / STRAY).exists()
    with RunLock(data, "collect"):
        assert not (data / STRAY).exists()


# --- Views that are made again ---


def test_a_view_is_built_beside_and_replaces_its_files_only(tmp_path):
    view = tmp_path / "view"
    for name in ("old.ev", "seed_7/old.ev", "seed_7/notes.txt"):
        (view / name).parent.mkdir(parents=True, exist_ok=True)
        (view / name).write_bytes(b"old")
    with replacing_files(view, "*.ev") as fresh:
        (fresh / "seed_0").mkdir()
        (fresh / "seed_0" / "new.ev").write_bytes(b"new")
        assert (view / "old.ev").exists() and not (view / "seed_0").exists()
    found = sorted(path.relative_to(view).as_posix() for path in view.rglob("*") if path.is_file())
    assert found == ["seed_0/new.ev", "seed_7/notes.txt"]
    with pytest.raises(RuntimeError), replacing_files(view, "*.ev") as fresh:
        (fresh / "half.ev").write_bytes(b"ha")
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["view"]
    assert (view / "seed_0" / "new.ev").read_bytes() == b"new"
