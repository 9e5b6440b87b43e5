"""Histories whose episodes vary in length are cut at their flags, whatever length the card tells of."""

import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.types import History
from icrl.datasets._episodes import returns_between_flags, shortest_episode
from icrl.datasets.histories import StoredHistories, episodes
from icrl.datasets.store import store_records
from icrl.reports.histories import describe

T, STRETCH = 100, 20


def records(seed: int = 0, ends=None) -> dict[str, np.ndarray]:
    """Three tasks of two histories; an episode ends after each step with probability 1/4."""
    rng = np.random.default_rng(seed)
    shape = (3, 2, T)
    drawn = rng.random(shape) < 0.25
    ends = drawn if ends is None else np.broadcast_to(ends, shape)
    split = rng.random(shape) < 0.5
    obs = rng.random((*shape, 2), np.float32)
    action, reward = rng.integers(0, 4, shape, np.int32), rng.random(shape, np.float32)
    return dict(zip(History._fields, (obs, action, reward, obs, ends & split, ends & ~split), strict=True))


def stored(folder, fields: dict, shard_tasks: int = 2) -> StoredHistories:
    card = {"num_steps": T, "episode_steps": STRETCH, "task_ids": [0, 1, 2], "optimal_return": [10.0] * 3}
    store_records(folder, lambda ids: {name: field[ids] for name, field in fields.items()}, 3, card, shard_tasks)
    return StoredHistories(folder)


def by_hand(life: History) -> list[float]:
    """One history after the other, in plain Python."""
    ended: list[list[float]] = [[] for _ in range(T // STRETCH)]
    step = 0
    for episode in episodes(life):
        step += len(episode.action)
        if episode.terminated[-1] or episode.truncated[-1]:
            ended[(step - 1) // STRETCH].append(float(episode.reward.astype(np.float64).sum()))
    means = [np.mean(each) if each else None for each in ended]
    first = next(each for each in means if each is not None)
    for place, each in enumerate(means):
        means[place] = (means[place - 1] if place else first) if each is None else each
    return means


@pytest.mark.parametrize("seed", range(5))
def test_returns_are_those_of_the_episodes_between_flags(tmp_path, seed):
    data = stored(tmp_path, records(seed))
    wanted = [by_hand(life) for position in range(3) for life in data.of_task(position)]
    np.testing.assert_allclose(data.table().returns, wanted, rtol=1e-12)
    np.testing.assert_array_equal(data.episode_returns(1), data.episode_returns().reshape(3, 2, -1)[:, 0])
    assert "1083" not in describe(data)


def test_rare_ends_fill_the_stretches_between_them(tmp_path):
    ends = np.zeros((3, 2, T), bool)
    ends[..., 45] = ends[..., 50] = True
    data = stored(tmp_path, records(0, ends))
    wanted = [by_hand(life) for position in range(3) for life in data.of_task(position)]
    np.testing.assert_allclose(data.episode_returns(), wanted)


def test_a_history_in_which_no_episode_ends_is_refused(tmp_path):
    ends = np.ones((3, 2, T), bool)
    ends[1, 0] = False
    with pytest.raises(InputError, match=r"episodes: got .none that ends"):
        stored(tmp_path, records(0, ends)).table()


@pytest.mark.parametrize("length", [20, 50, 33, 100, 1000])
def test_episodes_of_the_length_on_the_card_or_longer_are_counted_by_steps(tmp_path, length):
    """A bandit's one episode is cut into stretches of steps, as the card says."""
    data = stored(tmp_path, records(0, np.arange(1, T + 1) % length == 0))
    reward = records()["reward"].reshape(6, -1, STRETCH)
    np.testing.assert_allclose(data.episode_returns(), reward.sum(-1, dtype=np.float64))


def test_the_shortest_episode():
    ends = np.zeros((2, 10), bool)
    assert shortest_episode(ends[:, :1], 10) == 10 == shortest_episode(ends, 10)
    assert shortest_episode(~ends[:, :1], 10) == 1
    ends[0, [4, 9]] = ends[1, [2]] = True
    assert shortest_episode(ends, 10) == 3
    ends[1, 2] = False
    ends[1, 6] = True
    assert shortest_episode(ends, 10) == 5


def test_one_stretch_of_one_history():
    found = returns_between_flags(np.arange(4.0).reshape(1, 1, 4), np.array([[[True, False, True, False]]]), 4)
    assert found.tolist() == [[[1.5]]]  # 0, and 1 + 2; the last step is of an unfinished one
