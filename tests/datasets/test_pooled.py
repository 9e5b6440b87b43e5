"""Stored histories as one set: on disk and on the device they give the same windows, bit for bit."""

import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.registry import agents
from icrl.core.settings import replaced
from icrl.core.types import History
from icrl.datasets import _arrays, store
from icrl.datasets import histories as module
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_collected
from icrl.datasets.pooled import PooledHistories
from icrl.datasets.windows import DeviceHistories, Windows
from icrl.envs.dark_room import DarkRoom
from icrl.experiments.ad_darkroom import ADDarkRoom
from icrl.recipes import data as data_of

ENV = DarkRoom(size=4, horizon=6)
IDS = np.array([3, 0, 9, 5, 14])
STEPS = 32  # five whole episodes and two steps


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Four learners and two random players a task, in shards of two tasks and of one."""
    sets = []
    for source, count, shard_tasks in (("q-learning", 4, 2), ("uniform", 2, 1)):
        folder = tmp_path_factory.mktemp(source)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "SHARD_STEPS", shard_tasks * count * STEPS)
            part = Part(agents[source].for_env(ENV), count)
            store_collected(folder, HistoryGenerator(ENV, (part,), STEPS, IDS, 0), {})
        sets.append(StoredHistories(folder))
    return ((sets[0], 3), (sets[1], 2))


def fetched(parts, name):
    """The pooled field [N, T, ...], put together from whole records."""
    fields = [stored.fetch(np.arange(5))[name][:, :count] for stored, count in parts]
    return np.concatenate([field.reshape(-1, *field.shape[2:]) for field in fields])


@pytest.mark.parametrize("keep_every", [1, 2])
@pytest.mark.parametrize("number", [1, 2], ids=["one set", "two sets"])
def test_windows_from_disk_are_those_from_the_device_bit_for_bit(parts, monkeypatch, keep_every, number):
    monkeypatch.setattr(store, "OPEN_SHARDS", 1)  # more shards than may be open,
    monkeypatch.setattr(_arrays, "SMALL", 0)  # and everything is mapped
    pooled = PooledHistories(tuple((StoredHistories(s.folder), n) for s, n in parts[:number]), keep_every)
    resident = pooled.on_device()
    assert pooled.shape == resident.shape == ((15, 25)[number - 1], (32, 18)[keep_every - 1])
    assert pooled.nbytes == sum(field.nbytes for field in resident.columns)
    index, first = np.array([14, 0, 7, 7, pooled.shape[0] - 1]), np.array([0, 6, 0, 6, 0])
    drawn = [Windows(source, index, 8, 32, (0, 1), 2, first) for source in (pooled, resident)]
    for step in range(3):
        for a, b in zip(drawn[0](step), drawn[1](step), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_rows_are_those_of_the_records(parts):
    pooled, thinned = PooledHistories(parts), PooledHistories(parts, keep_every=2)
    kept = np.flatnonzero(np.arange(30) // 6 % 2 == 0)
    rows, starts = np.array([24, 3, 0, 15, 8]), np.array([0, 4, 10, 2, 1])
    for name in History._fields:
        whole = fetched(parts, name)
        np.testing.assert_array_equal(getattr(pooled.on_device().columns, name), whole)
        np.testing.assert_array_equal(getattr(thinned.on_device().columns, name), whole[:, kept])
        found = getattr(thinned.cut(rows, starts, 8), name)
        for b in range(5):
            np.testing.assert_array_equal(found[b], whole[rows[b], kept[starts[b] : starts[b] + 8]])


def test_the_table_has_the_same_rows(parts):
    table = PooledHistories(parts).table()
    np.testing.assert_array_equal(table.returns, fetched(parts, "reward")[:, :30].reshape(25, 5, 6).sum(-1))
    np.testing.assert_array_equal(table.task, np.append(np.repeat(IDS, 3), np.repeat(IDS, 2)))
    assert table.optimal_return.shape == table.minimal_return.shape == (25,)


def test_a_window_longer_than_a_history_on_disk_is_refused(parts):
    with pytest.raises(InputError, match="window: got 33, allowed: at most the 32 transitions of a history") as caught:
        Windows(PooledHistories(parts), np.array([0]), 33, 4, (0,))
    assert "\n" not in str(caught.value)


def test_a_recipe_trains_alike_on_data_that_do_and_do_not_fit(tmp_path, monkeypatch):
    changes = {"history_steps": 60, "keep_every": 2, "train_tasks": 4}
    clean = replaced(ADDarkRoom.presets["smoke"], changes)
    recipes = {"clean": clean, "noisy": replaced(clean, {"noisy_fraction": 0.25})}
    for recipe in recipes.values():
        data_of.collect_histories(recipe, tmp_path, 0)
    assert len(list((tmp_path / "data").iterdir())) == 2  # the learners' once, and the random players'
    fits = {name: data_of.RunData(tmp_path, 0).union(recipe) for name, recipe in recipes.items()}
    monkeypatch.setattr(data_of, "DEVICE_BYTES", fits["clean"][1].columns.action.nbytes)
    for name, (table, resident, _) in fits.items():
        same, pooled, _ = data_of.RunData(tmp_path, 0).union(recipes[name])
        assert isinstance(resident, DeviceHistories) and isinstance(pooled, PooledHistories)
        np.testing.assert_array_equal(table.returns, same.returns)
        batches = [Windows(source, np.arange(32), clean.context_steps, 16, (0,))(0) for source in (resident, pooled)]
        assert all(map(np.array_equal, *batches))
    players = fits["noisy"][0].returns[24:]  # the last two of each task's eight
    random = StoredHistories(next((tmp_path / "data").glob("random-*")))
    np.testing.assert_array_equal(players, random.episode_returns())
    learners = fits["clean"][0].returns.reshape(4, 8, -1)[:, :6]
    np.testing.assert_array_equal(fits["noisy"][0].returns[:24], learners.reshape(24, -1))
