"""Learning histories: made reproducibly, stored exactly, cut into windows that are what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.cli import main
from icrl.core.errors import DamagedError, InputError
from icrl.core.registry import agents
from icrl.core.types import History
from icrl.datasets import histories as module
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_collected
from icrl.datasets.pooled import PooledHistories
from icrl.datasets.windows import DeviceHistories, Windows
from icrl.envs._streams import Streams
from icrl.envs.dark_room import DarkRoom

ENV = DarkRoom(size=4, horizon=6)
IDS = np.array([3, 0, 9, 5, 14])
STEPS, EACH = 30, 4


def independent(name="q-learning"):
    return Part(agents[name].for_env(ENV), EACH)


def streams():
    return Part(agents["ppo"].for_env(Streams(ENV, EACH), num_steps=5), EACH, shared=True)


def generator(*parts, ids=IDS, seed=0):
    return HistoryGenerator(ENV, parts or (independent(),), STEPS, ids, seed)


def on_device(folder, keep_every=1):
    return PooledHistories(((StoredHistories(folder), EACH),), keep_every).on_device().columns


def equal(a, b):
    return all(np.array_equal(a[name], b[name]) for name in History._fields)


@pytest.mark.parametrize("make", [independent, streams], ids=["independent", "streams"])
def test_a_task_has_the_same_histories_whatever_is_made_with_it(make):
    many, alone = generator(make()).fetch(np.arange(5)), generator(make(), ids=np.array([9])).fetch(np.array([0]))
    assert many["action"].shape == (5, EACH, STEPS)
    assert many["obs"].shape == (5, EACH, STEPS, 2)
    for name in History._fields:
        np.testing.assert_array_equal(many[name][2], alone[name][0])
    assert not np.array_equal(many["action"][2, 0], many["action"][2, 1])


@pytest.mark.parametrize("make", [independent, streams], ids=["independent", "streams"])
def test_long_histories_are_made_one_task_at_a_time(make, monkeypatch):
    """Not five or all of them for a shard that holds one."""
    made = []
    monkeypatch.setattr(module, "STEPS_AT_ONCE", EACH * STEPS)
    monkeypatch.setattr(HistoryGenerator, "_together", lambda self, places: made.append(len(places)) or {"x": places})
    assert np.array_equal(generator(make()).fetch(np.arange(3))["x"], np.arange(3)) and made == [1, 1, 1]


@pytest.mark.parametrize("make", [independent, streams], ids=["independent", "streams"])
def test_histories_are_lives(make):
    """Each transition is a step of the room, episodes last six steps, and the next begins at the start."""
    found = jax.tree.map(np.asarray, generator(make()).fetch(np.arange(2)))
    truncated = found["truncated"]
    assert np.array_equal(truncated, np.broadcast_to(np.arange(STEPS) % 6 == 5, truncated.shape))
    starts = found["obs"][:, :, ::6]
    assert (starts == starts[0, 0, 0]).all()
    inside = ~truncated[..., :-1]
    np.testing.assert_array_equal(found["next_obs"][:, :, :-1][inside], found["obs"][:, :, 1:][inside])
    assert np.abs(found["next_obs"] - found["obs"]).sum(-1).max() <= 1


def test_streams_share_one_learner():
    """After its update the policy is the same in all streams, and differs from that of another task."""
    env = Streams(ENV, EACH)
    agent = agents["ppo"].for_env(env, num_steps=5)
    state = agent.init(jax.random.key(0))
    obs, _ = env.reset(jax.random.key(1), ENV.task(3))
    assert obs.shape == (EACH, 2)
    assert agent.act(jax.random.key(2), state, obs).shape == (EACH,)


@pytest.mark.parametrize("shard_steps", [1, 300])
def test_stored_histories_are_the_generated_ones_and_shards_leave_the_digest_alone(tmp_path, monkeypatch, shard_steps):
    store_collected(tmp_path / "a", generator(), {"x": 1})
    monkeypatch.setattr(module, "SHARD_STEPS", shard_steps)
    store_collected(tmp_path / "b", generator(), {"x": 1})
    a, b = StoredHistories(tmp_path / "a"), StoredHistories(tmp_path / "b")
    assert a.digest == b.digest
    assert equal(b.fetch(np.arange(5)), generator().fetch(np.arange(5)))
    store_collected(tmp_path / "c", generator(seed=1), {"x": 1})
    assert StoredHistories(tmp_path / "c").digest != a.digest


def test_table_of_returns(tmp_path):
    store_collected(tmp_path, generator(independent(), independent("oracle")), {})
    stored = StoredHistories(tmp_path)
    table, reward = stored.table(), np.asarray(generator().fetch(np.arange(5))["reward"])
    assert table.returns.shape == (5 * 2 * EACH, STEPS // 6)
    np.testing.assert_array_equal(table.task, np.repeat(IDS, 2 * EACH))
    found = table.returns.reshape(5, 2 * EACH, -1)
    np.testing.assert_array_equal(found[:, :EACH], reward.reshape(5, EACH, -1, 6).sum(-1))
    optimal = [float(ENV.optimal_return(ENV.task(i))) for i in IDS]
    np.testing.assert_allclose(found[:, EACH:], np.broadcast_to(np.reshape(optimal, (5, 1, 1)), (5, EACH, 5)))
    np.testing.assert_allclose(table.optimal_return.reshape(5, -1)[:, 0], optimal)


def test_every_kth_episode(tmp_path):
    store_collected(tmp_path, generator(), {})
    whole, kept = on_device(tmp_path), on_device(tmp_path, keep_every=2)
    assert kept.action.shape == (20, 18)
    np.testing.assert_array_equal(kept.obs[:, 6:12], whole.obs[:, 12:18])


def test_windows_are_slices_of_the_chosen_rows(tmp_path):
    store_collected(tmp_path, generator(), {})
    columns = on_device(tmp_path)
    batches = Windows(DeviceHistories(columns), np.array([7, 7, 7, 2]), window=12, batch_size=64, seed=(0, 1), stride=6)
    found, again = batches(3), batches(3)
    assert all(map(np.array_equal, found, again))
    assert not np.array_equal(found.action, batches(4).action)
    assert [field.dtype for field in found] == [
        jnp.float32, jnp.int32, jnp.float32, jnp.float32, jnp.bool_, jnp.bool_
    ]  # fmt: skip
    places = [
        (row, start)
        for b in range(64)
        for row in (7, 2)
        for start in range(0, 19, 6)
        if all(np.array_equal(f[b], c[row, start : start + 12]) for f, c in zip(found, columns, strict=True))
    ]
    assert len(places) >= 64
    assert {start for _, start in places} == {0, 6, 12, 18}
    assert sum(row == 7 for row, _ in places) > sum(row == 2 for row, _ in places)


def test_windows_begin_where_the_filter_says(tmp_path):
    store_collected(tmp_path, generator(), {})
    columns = on_device(tmp_path)
    batches = Windows(DeviceHistories(columns), np.array([7, 2]), 12, 256, (0,), stride=6, first=np.array([12, 6]))
    steps = np.arange(STEPS) + 100 * np.arange(20)[:, None]  # each step tells its row and time
    told = dataclasses.replace(batches, histories=DeviceHistories(columns._replace(action=jnp.asarray(steps))))(0)
    rows, starts = np.divmod(np.asarray(told.action)[:, 0], 100)
    assert set(zip(rows.tolist(), starts.tolist(), strict=True)) == {(7, 12), (7, 18), (2, 6), (2, 12), (2, 18)}


@pytest.mark.parametrize("stride", [1, 4])
def test_windows_reach_the_end_of_a_history_and_never_beyond(stride):
    """What is cut beyond it, jax would move back in silence."""
    histories = DeviceHistories(History(*(jnp.zeros((3, 20)) for _ in History._fields)))
    windows = Windows(histories, np.array([0, 2]), 7, 64, (0,), stride=stride)
    starts = np.concatenate([windows.places(step)[1] for step in range(20)])
    assert set(starts.tolist()) == set(range(0, 14, stride))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"first": np.full(20, 19)}, "first"),
        ({"window": 31}, "window"),
        ({"index": np.array([20])}, "index"),
        ({"index": np.array([], int)}, "index"),
    ],
)
def test_windows_that_do_not_fit_are_refused(settings, field):
    fetched = generator().fetch(np.arange(5))
    columns = History(*(fetched[name].reshape(20, *fetched[name].shape[2:]) for name in History._fields))
    with pytest.raises(InputError, match=field):
        Windows(
            DeviceHistories(columns),
            **{"index": np.arange(20), "window": 12, "batch_size": 4, "seed": (0,), **settings},
        )


def test_damage_and_absence_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_STEPS", 300)
    store_collected(tmp_path / "a", generator(), {})
    path = next((tmp_path / "a").glob("tasks-*")) / "action.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedError, match=r"action\.npy"):
        StoredHistories(tmp_path / "a")
    with pytest.raises(InputError, match=r"card\.json"):
        StoredHistories(tmp_path)
    path.write_bytes(bytes(data[:-1] + bytes([data[-1] ^ 1])))
    card = (tmp_path / "a" / "card.json").read_text()
    (tmp_path / "a" / "card.json").write_text(card.replace('"num_steps": 30', '"num_steps": 29'))
    with pytest.raises(DamagedError, match=r"card\.json: sha256"):
        StoredHistories(tmp_path / "a")
    (tmp_path / "a" / "card.json").write_text(card.replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match=r"format: got 2"):
        StoredHistories(tmp_path / "a")


def test_a_set_is_described_and_drawn(tmp_path, capsys):
    store_collected(tmp_path / "a", generator(independent("annealed-oracle")), {})
    assert main(["verify", str(tmp_path / "a")]) == 0
    assert main(["inspect", str(tmp_path / "a"), "--png", str(tmp_path / "curves.png")]) == 0
    out = capsys.readouterr().out
    assert "intact: 5 tasks" in out and "5 tasks x 4 x 30 transitions" in out and out.count("task  ") == 5
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert main(["verify", str(tmp_path)]) == 2
    (tmp_path / "a" / "card.json").unlink()
    assert main(["inspect", str(tmp_path / "a")]) == 2
