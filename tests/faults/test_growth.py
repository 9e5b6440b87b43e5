"""A stored set that grows, or that is not finished: what was acknowledged stays, what is missing is counted."""

import errno
import json
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from crash_points import die_at, fail_at, in_fork, intercepted, run_child
from published import one_line, temporaries

from icrl.core.errors import IncompleteError, ResourceError
from icrl.datasets.store import StoredRecords, store_records
from icrl.storage.documents import digest_of, write_document
from icrl.storage.publish import publishing_folder, read_json, verify_folder

SHARD = 4


def records(ids: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": np.stack([np.random.default_rng(int(i)).random(20) for i in ids]), "n": ids}


def store(folder: Path, num_tasks: int, fetch=records) -> None:
    store_records(folder, fetch, num_tasks, {"seed": 1}, SHARD)


def has(folder: Path, at_least: int) -> StoredRecords:
    """The set, which must hold the right records of at least so many tasks."""
    stored = StoredRecords(folder)
    assert stored.num_tasks >= at_least
    ids = np.arange(stored.num_tasks)
    for name, field in records(ids).items():
        np.testing.assert_array_equal(stored.fetch(ids)[name], field)
    return stored


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("tasks-*"))


# --- Growing ---


def child_crash_points(root: Path) -> dict:
    store(root / "six", 6)
    store(root / "whole", 10)
    wanted, points = StoredRecords(root / "whole").digest, 0
    for k in range(1, 1000):
        place = root / f"at-{k}"
        shutil.copytree(root / "six", place)

        def grow(place=place, k=k):
            with intercepted(die_at(k)):
                store(place, 10)

        code = in_fork(grow)
        has(place, 6)
        store(place, 10)
        assert has(place, 10).digest == wanted and len(shards(place)) == 3 and not temporaries(place), k
        shutil.rmtree(place)
        if code == 0:
            break
        assert code == 9, (k, code)
        points = k
    return {"points": points}


def test_death_at_every_call_of_growing_loses_no_task(tmp_path):
    assert run_child(__file__, "crash_points", tmp_path)["points"] > 40


def test_a_full_disk_at_every_call_of_growing_loses_no_task(tmp_path):
    for k in range(1, 200):
        place = tmp_path / str(k)
        store(place, 6)
        before, past_the_end = fail_at(k, errno.ENOSPC)
        try:
            with intercepted(before):
                store(place, 10)
        except ResourceError as error:
            one_line(error)
            has(place, 6)
            store(place, 10)
        assert has(place, 10) and not temporaries(place)
        if past_the_end():
            break
    assert k > 20


def test_a_real_limit_on_the_size_of_files_is_a_full_disk_in_one_line(tmp_path):
    """NumPy's own writer tells of it without an error number."""
    store(tmp_path, 4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ResourceError, match=r"needs at least \d+ bytes, \d+ are free") as caught:
            store(tmp_path, 8, lambda ids: {"x": np.random.default_rng(0).random((len(ids), 20_000)), "n": ids})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert one_line(caught.value) and caught.value.exit_code == 5
    assert has(tmp_path, 4).num_tasks == 4 and not temporaries(tmp_path)
    store(tmp_path, 8)
    assert has(tmp_path, 8).num_tasks == 8


def test_what_numpy_cannot_write_into_a_published_folder_is_a_full_disk_too(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ResourceError, match="needs at least") as caught, publishing_folder(tmp_path / "x", {}) as x:
            np.save(x / "array.npy", np.zeros(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert one_line(caught.value) and list(tmp_path.iterdir()) == []


def test_a_source_that_fails_while_a_set_grows_leaves_it(tmp_path):
    def failing(ids):
        raise RuntimeError("no more")

    for first in (3, 6):
        with pytest.raises(RuntimeError):
            store(tmp_path / str(first), first)
            store(tmp_path / str(first), 8, failing)
        assert has(tmp_path / str(first), first).num_tasks == first
        store(tmp_path / str(first), 8)
        assert has(tmp_path / str(first), 8).num_tasks == 8


def test_the_longest_shard_of_a_start_counts_and_a_reader_follows_it(tmp_path):
    store(tmp_path, 6)
    shutil.copytree(tmp_path / "tasks-0000000004-0000000006", tmp_path / "short")
    early = StoredRecords(tmp_path)
    store(tmp_path, 8)
    np.testing.assert_array_equal(early.fetch(np.arange(6))["x"], records(np.arange(6))["x"])  # its shard has gone
    (tmp_path / "short").rename(tmp_path / "tasks-0000000004-0000000006")
    assert has(tmp_path, 8).num_tasks == 8
    store(tmp_path, 8)
    assert len(shards(tmp_path)) == 2


# --- Not finished ---


def stop_after(calls: int):
    made = []

    def fetch(ids):
        if len(made) == calls:
            raise KeyboardInterrupt
        made.append(ids)
        return records(ids)

    return fetch


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_collection_that_was_interrupted_is_incomplete_until_it_goes_on(tmp_path, done):
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path, 12, stop_after(done))
    with pytest.raises(IncompleteError, match=f"incomplete: {4 * done} of 12 tasks") as caught:
        StoredRecords(tmp_path)
    assert caught.value.exit_code == 6 and one_line(caught.value)
    store(tmp_path, 12)
    assert has(tmp_path, 12).num_tasks == 12


def test_shards_lost_from_the_end_are_counted(tmp_path):
    store(tmp_path, 12)
    shutil.rmtree(shards(tmp_path)[-1])
    with pytest.raises(IncompleteError, match="incomplete: 8 of 12 tasks"):
        StoredRecords(tmp_path)
    store(tmp_path, 8)  # asked for less, that is what the set has
    assert has(tmp_path, 8).card["num_tasks"] == 8


def test_the_digest_is_of_the_records_and_not_of_how_the_set_grew(tmp_path):
    for steps in ((10,), (3, 6, 10), (9, 10)):
        for count in steps:
            store(tmp_path / str(steps), count)
    assert len({StoredRecords(path).digest for path in tmp_path.iterdir()}) == 1


def test_a_set_of_before_without_a_count_is_read_and_goes_on(tmp_path):
    store(tmp_path, 6)
    card = {
        name: value for name, value in read_json(tmp_path / "card.json").items() if name not in ("num_tasks", "sha256")
    }
    write_document(tmp_path / "card.json", card)
    assert has(tmp_path, 6).num_tasks == 6
    store(tmp_path, 10)
    assert has(tmp_path, 10).card["num_tasks"] == 10
    assert all(verify_folder(path)["card"] == digest_of(card) for path in shards(tmp_path))


if __name__ == "__main__":
    print(json.dumps(globals()[f"child_{sys.argv[1]}"](*map(Path, sys.argv[2:]))))
