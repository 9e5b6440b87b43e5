"""The dark rooms against brute force: every state and action through the env's own step, then dynamic programming.

Anchors are published or exact numbers (mean optima, mean returns of a uniformly random agent, held-out tasks).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.envs import _splits as splits
from icrl.envs.dark_key_to_door import DarkKeyToDoor
from icrl.envs.dark_room import DarkRoom, DarkRoomCorner, DarkRoomHard, DarkRoomLarge
from icrl.envs.dark_room_permuted import DarkRoomPermuted

ROOMS = [DarkRoom(), DarkRoomCorner(), DarkRoomHard(), DarkRoomLarge(), DarkRoomPermuted(), DarkKeyToDoor()]
MOVES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (0, 0)])


# -- brute force ------------------------------------------------------------------------------------------------------


def flags_of(state):
    return [field.name for field in dataclasses.fields(state) if field.name not in ("position", "time")]


def every_state(env):
    """All states at time 0, [S]: the cells, row-major, in each phase (no flag set, the first, the first two)."""
    first = jax.vmap(lambda i: env.begin(env.cell(i)))(jnp.arange(env.size**2))
    flags = flags_of(first)
    phases = [
        first.replace(**{name: jnp.full(env.size**2, i < phase) for i, name in enumerate(flags)})
        for phase in range(len(flags) + 1)
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *phases)


def number_of(env, state):
    """Where ``state`` stands in ``every_state``."""
    phase = sum(getattr(state, name).astype(jnp.int32) for name in flags_of(state))
    return phase * env.size**2 + env.spec.state_index(state.position)


@functools.partial(jax.jit, static_argnames="env")
def outcomes(env, tasks):
    """Number of the next state, and the reward, of every action in every state of every task: [N, S, 5] each."""

    def outcome(task, state, action):
        obs, after, reward, terminated, _ = env.step_env(jax.random.key(0), state, action, task)
        sound = ~terminated & (after.time == 1) & jnp.array_equal(obs, after.position)
        return jnp.where(sound, number_of(env, after), -1), reward

    per_state = jax.vmap(jax.vmap(outcome, (None, None, 0)), (None, 0, None))
    return jax.vmap(per_state, (0, None, None))(tasks, every_state(env), jnp.arange(5))


def tables(env, tasks):
    after, reward = map(np.asarray, outcomes(env, tasks))
    assert after.min() >= 0
    return after, reward.astype(np.float64)


def backup(after, reward, values):
    """reward + values of the next state, [N, S, 5]."""
    return reward + np.take_along_axis(values, after.reshape(len(values), -1), 1).reshape(after.shape)


def at_start(env, tasks, values):
    """The entry of ``values`` [N, S] for the start of an episode, [N]; a mean over cells when it is random."""
    if env.start == "random":
        return values[:, : env.size**2].mean(1)
    task = jax.tree.map(lambda leaf: leaf[0], tasks)
    return values[:, int(number_of(env, env.reset(key_for(0, "start"), task)[1]))]


def random_returns(env, tasks):
    """Expected return per episode of uniformly random actions, exact, [N]."""
    after, reward = tables(env, tasks)
    values = np.zeros(after.shape[:2])
    for _ in range(env.horizon):
        values = backup(after, reward, values).mean(-1)
    return at_start(env, tasks, values)


def optima(env, indices):
    return np.asarray(jax.vmap(env.optimal_return)(TaskSet.of(env, indices).params), np.float64)


def near_cells(*cells, size):
    return [x * size + y for x, y in cells]


SMALL_HARD = DarkRoom(size=4, horizon=5, start="random", reward_once=True)
SMALL_KEYS = DarkKeyToDoor(size=3, horizon=4, start="random")  # some pairs are out of reach
FAMILIES = {
    "room": (DarkRoom(), range(81)),
    "corner": (DarkRoomCorner(), near_cells((0, 0), (0, 1), (9, 9), (4, 7), size=10)),
    "hard": (DarkRoomHard(), near_cells((8, 8), (8, 9), (0, 0), (16, 3), size=17)),
    "large": (DarkRoomLarge(), near_cells((7, 7), (6, 7), (14, 14), (0, 9), size=15)),
    "permuted": (DarkRoomPermuted(), [0, 1, 70, 119]),
    "keys": (DarkKeyToDoor(), [40 * 81 + 40, 40 * 81, 7 * 81 + 40, 0, 80, 13 * 81 + 14, 6560]),  # 40 is the start
    "small hard": (SMALL_HARD, range(16)),
    "small keys": (SMALL_KEYS, range(81)),
    "random start": (DarkRoom(size=5, horizon=7, start="random"), range(25)),
    "permuted, random start": (DarkRoomPermuted(size=4, horizon=6, start="random"), range(0, 120, 7)),
}


@functools.partial(jax.jit, static_argnames="env")
def oracles(env, tasks, time):
    """The env's own regrets [N, S, 5], optimal actions [N, S] and values [N, S] in every state at ``time``."""
    states = every_state(env)
    states = states.replace(time=jnp.full_like(states.time, time))

    def one(task, state):
        regrets = jax.vmap(lambda action: env.regret(task, state, action))(jnp.arange(5))
        return regrets, env.optimal_action(task, state), env.value(task, state)

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(tasks, states)


@pytest.mark.parametrize("family", FAMILIES)
def test_oracles_are_those_of_backward_induction(family):
    """In every state, with any number of steps left: regret = V* - Q* exactly, and the optimal action loses nothing."""
    env, indices = FAMILIES[family]
    tasks = TaskSet.of(env, list(indices)).params
    after, reward = tables(env, tasks)
    best = np.zeros(after.shape[:2])
    for left in range(1, env.horizon + 1):
        worth = backup(after, reward, best)
        best = worth.max(-1)
        regrets, actions, values = map(np.asarray, oracles(env, tasks, env.horizon - left))
        assert actions.dtype == np.int32 and regrets.dtype == np.float32
        assert np.array_equal(regrets, best[..., None] - worth)
        assert np.array_equal(values, best)
        assert not np.take_along_axis(regrets, actions[..., None], -1).any()
    np.testing.assert_allclose(optima(env, list(indices)), at_start(env, tasks, best), rtol=1e-6)


def test_optimal_walk_goes_along_x_then_y_then_stays():
    for env, indices in (DarkRoom(), [0, 38, 80]), (DarkRoomPermuted(), [0, 25, 61, 119]):
        tasks = TaskSet.of(env, indices)
        actions = np.asarray(oracles(env, tasks.params, 0)[1])
        for goal, order, chosen in zip(tasks.params.goal, tasks.params.action_order, actions, strict=True):
            gap = np.asarray(goal) - np.asarray(every_state(env).position)
            along_x = np.stack([np.sign(gap[:, 0]), 0 * gap[:, 0]], 1)
            along_y = np.stack([0 * gap[:, 0], np.sign(gap[:, 1])], 1)
            assert np.array_equal(MOVES[np.asarray(order)][chosen], np.where(gap[:, :1] != 0, along_x, along_y))


def test_nothing_left_to_earn_means_stay():
    for env in (DarkRoomHard(), DarkKeyToDoor()):
        actions = np.asarray(oracles(env, TaskSet.of(env, [3, 17]).params, 0)[1])
        assert (actions[:, -(env.size**2) :] == 4).all()  # the last phase


# -- anchors ----------------------------------------------------------------------------------------------------------


def test_mean_optima():
    room, corner = DarkRoom(), DarkRoomCorner()
    train, held_out = splits.shuffled_split(81, 0.9, 0)
    assert optima(room, range(81)).mean() == pytest.approx(16.543, abs=5e-4)
    assert optima(room, train).mean() == pytest.approx(16.466, abs=5e-4)
    assert optima(room, held_out).mean() == 17.25
    assert [optima(room, splits.shuffled_split(81, 0.9, seed)[1]).mean() for seed in range(1, 5)] == [
        15.5, 16.875, 16.125, 17.0,
    ]  # fmt: skip
    large = DarkRoomLarge()
    assert optima(large, range(225)).mean() == pytest.approx(43.529, abs=5e-4)
    assert optima(large, splits.shuffled_split(225, 0.9, 0)[1]).mean() == pytest.approx(43.87, abs=5e-3)
    train, held_out = splits.numpy_split(100, 0.8, 0)
    assert optima(corner, range(100)).mean() == pytest.approx(91.99, abs=1e-5)
    assert optima(corner, train).mean() == pytest.approx(92.2625, abs=1e-5)
    assert optima(corner, held_out).mean() == pytest.approx(90.900, abs=1e-5)


def test_optima_that_are_the_same_for_all_tasks():
    assert set(optima(DarkRoomPermuted(), range(120))) == {35.0}
    assert set(optima(DarkRoomPermuted(size=10, horizon=100), range(120))) == {83.0}
    assert set(optima(DarkKeyToDoor(), range(6561))) == {2.0}
    assert set(optima(DarkKeyToDoor(start="random"), range(6561))) == {2.0}
    assert set(optima(DarkRoomHard(), range(289))) == {1.0}


def test_returns_of_a_random_agent():
    def mean(env, indices):
        return random_returns(env, TaskSet.of(env, list(indices)).params).mean()

    room, corner, large = DarkRoom(), DarkRoomCorner(), DarkRoomLarge()
    assert mean(room, range(81)) == pytest.approx(20 / 81, abs=1e-12)
    assert mean(room, splits.shuffled_split(81, 0.9, 0)[1]) == pytest.approx(0.3254, abs=1e-4)
    assert mean(DarkRoomPermuted(), range(0, 120, 17)) == pytest.approx(0.02431, abs=1e-5)  # the same in every task
    assert mean(large, range(225)) == pytest.approx(50 / 225, abs=1e-12)
    assert mean(corner, range(100)) == pytest.approx(1, abs=1e-12)
    assert mean(corner, splits.numpy_split(100, 0.8, 0)[0]) == pytest.approx(1.066, abs=5e-4)
    assert mean(corner, splits.numpy_split(100, 0.8, 0)[1]) == pytest.approx(0.736, abs=5e-4)


@pytest.mark.nightly
def test_return_of_a_random_agent_with_keys():
    """By day the rooms without keys, and the oracles of those with keys."""
    env = DarkKeyToDoor()
    groups = np.arange(6561).reshape(9, -1)  # in groups, to keep the tables small
    returns = [random_returns(env, TaskSet.of(env, group).params) for group in groups]
    assert np.mean(returns) == pytest.approx(0.26864, abs=1e-5)


def test_splits_are_the_published_ones():
    train, held_out = splits.shuffled_split(81, 0.9, 0)
    assert tuple((i // 9, i % 9) for i in held_out) == splits.DARK_ROOM_TEST_GOALS
    goals = TaskSet.of(DarkRoom(), held_out).params.goal
    assert tuple(map(tuple, goals.tolist())) == splits.DARK_ROOM_TEST_GOALS
    assert (len(train), len(held_out)) == (73, 8)
    assert splits.shuffled_split(120, 0.9, 4)[1] == splits.PERMUTED_TEST_IDS
    train, held_out = splits.numpy_split(100, 0.8, 0)
    goals = TaskSet.of(DarkRoomCorner(), held_out).params.goal
    assert tuple(map(tuple, goals.tolist())) == splits.DPT_TEST_GOALS
    assert sorted(train + held_out) == list(range(100))
    for num_tasks, fraction, sizes in (225, 0.9, (202, 23)), (6561, 0.95, (6233, 328)):
        parts = splits.shuffled_split(num_tasks, fraction, 4)
        assert tuple(map(len, parts)) == sizes
        assert sorted(parts[0] + parts[1]) == list(range(num_tasks))


# -- rules ------------------------------------------------------------------------------------------------------------


def play(env, task, actions):
    """(observations after each step, rewards, truncations) of one life from a reset, with auto-reset."""
    _, state = env.reset(key_for(0, "reset"), task)
    rows = []
    for t, action in enumerate(actions):
        _, state, reward, _, truncated, info = env.step(key_for(0, "step", t), state, jnp.int32(action), task)
        rows.append((tuple(info["final_observation"].tolist()), float(reward), bool(truncated)))
    return zip(*rows, strict=True)


def test_reward_is_for_the_cell_that_is_reached_and_walls_hold():
    env = DarkRoom(size=3, horizon=8)
    seen, rewards, truncated = play(env, env.task(5), [0, 2, 3, 0, 4, 2, 2, 7, 2])  # the goal is (1, 2), start (1, 1)
    assert seen == ((2, 1), (2, 2), (2, 1), (2, 1), (2, 1), (2, 2), (2, 2), (2, 2), (1, 2))  # 7 is no action: it stays
    assert rewards == (0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert truncated == (False,) * 7 + (True, False)
    _, rewards, _ = play(env, env.task(4), [4, 0, 1, 4, 3])
    assert rewards == (1, 0, 1, 1, 0)
    _, rewards, _ = play(dataclasses.replace(env, reward_once=True, horizon=4), env.task(4), [4, 0, 1, 4, 4, 4])
    assert rewards == (1, 0, 0, 0, 0, 0)  # the time limit is the task's


def test_a_permutation_says_what_an_action_does():
    env = DarkRoomPermuted(size=3)
    assert env.task(0).action_order.tolist() == [0, 1, 2, 3, 4]
    assert env.task(1).action_order.tolist() == [0, 1, 2, 4, 3]
    assert env.task(119).action_order.tolist() == [4, 3, 2, 1, 0]
    seen, rewards, _ = play(env, env.task(96), [1, 2, 3, 3, 0])
    assert env.task(96).action_order.tolist() == [4, 0, 1, 2, 3]
    assert seen == ((1, 0), (0, 0), (0, 1), (0, 2), (0, 2))
    assert rewards == (0,) * 5


def test_the_step_that_takes_the_key_does_not_open_the_door():
    env = DarkKeyToDoor(size=3)
    same, apart = env.task(7 * 9 + 7), env.task(7 * 9 + 4)  # key (2, 1); door there, or at the start (1, 1)
    assert list(play(env, same, [0, 4, 4]))[1] == (1, 1, 0)
    assert list(play(env, same, [0, 0, 4]))[1] == (1, 1, 0)  # bumping into the wall arrives as well
    assert list(play(env, same, [0, 1, 4, 0, 0]))[1] == (1, 0, 0, 1, 0)
    assert list(play(env, apart, [4, 4, 0, 0, 1, 4, 0]))[1] == (0, 0, 1, 0, 1, 0, 0)
    assert env.task(7 * 9 + 4).key.tolist() == [2, 1]


@pytest.mark.parametrize("env", ROOMS, ids=lambda env: env.name)
def test_tasks_are_numbered_and_drawn_uniformly(env):
    ids = list(range(0, env.num_tasks, 1 + env.num_tasks // 300))
    numbered = TaskSet.of(env, ids)
    assert numbered.ids.tolist() == ids and numbered.ids.dtype == jnp.uint32
    assert len(set(numbered.digests())) == len(ids)
    for i in (0, len(ids) - 1):
        one = jax.jit(env.task)(ids[i])
        env.validate_task(one)
        same = jax.tree.map(lambda leaf, row, i=i: jnp.array_equal(leaf, row[i]), one, numbered.params)
        assert all(jax.tree.leaves(same))
    drawn = TaskSet.draw(env, 0, "uniform", 20 * min(env.num_tasks, 300)).params
    numbers = drawn.action_order[:, 0] if isinstance(env, DarkRoomPermuted) else drawn.goal @ jnp.array([env.size, 1])
    counts = np.bincount(np.asarray(numbers))
    expected = counts.sum() / counts.size
    assert counts.size == (5 if isinstance(env, DarkRoomPermuted) else env.size**2)
    chi_square = np.square(counts - expected).sum() / expected  # mean n - 1, standard deviation sqrt(2 (n - 1))
    assert abs(chi_square - counts.size + 1) <= 4.3 * np.sqrt(2 * counts.size - 2)


@pytest.mark.parametrize("env", [DarkRoom(size=4, start="random"), DarkKeyToDoor(size=4, start="random")], ids=str)
def test_random_cells_are_uniform(env):
    task, keys = env.task(3), jax.random.split(key_for(0, "cells"), 16_000)
    for draw in (env.reset, env.random_state):
        obs, states = jax.vmap(draw, (0, None))(keys, task)
        assert np.array_equal(obs, states.position) and obs.dtype == jnp.float32
        assert not states.time.any()
        counts = np.bincount(np.asarray(jax.vmap(env.spec.state_index)(obs)), minlength=16)
        assert np.square(counts - 1000).sum() / 1000 <= 15 + 4.3 * np.sqrt(30)
    if isinstance(env, DarkKeyToDoor):
        assert not states.opened.any()
        with_key = np.bincount(np.asarray(jax.vmap(env.spec.state_index)(obs)), np.asarray(states.has_key), 16)
        assert np.square(with_key - 500).sum() / 250 <= 16 + 4.3 * np.sqrt(32)  # half of each cell's draws


def test_every_episode_has_its_own_random_start():
    env = DarkRoom(horizon=1, start="random")
    _, state = env.reset(key_for(0, "reset"), env.task(0))
    step = jax.vmap(lambda key: env.step(key, state, jnp.int32(4), env.task(0))[1].position)
    assert len(set(map(tuple, step(jax.random.split(key_for(0, "steps"), 400)).tolist()))) > 60


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", ROOMS, ids=lambda env: env.name)
@pytest.mark.parametrize(
    "setting", [{"size": 1}, {"size": 129}, {"size": 9.0}, {"horizon": 0}, {"horizon": True}, {"start": "goal"},
                {"start": None}, {"reward_once": 1}],
    ids=str,
)  # fmt: skip
def test_bad_settings_are_refused(env, setting):
    if set(setting) <= {field.name for field in dataclasses.fields(env)}:
        with pytest.raises(InputError, match=rf"^{next(iter(setting))}: got "):
            dataclasses.replace(env, **setting)


@pytest.mark.parametrize("env", ROOMS, ids=lambda env: env.name)
def test_bad_tasks_are_refused(env):
    task = env.task(5)
    cells = ["goal", "key"] if isinstance(env, DarkKeyToDoor) else ["goal"]
    bad = [(name, jnp.array(cell)) for name in cells for cell in ([-1, 0], [0, env.size], [1.0, 2.0], [1, 2, 3])]
    bad += [(name, jnp.array([True, False])) for name in cells]
    if not isinstance(env, DarkKeyToDoor):
        bad += [("action_order", jnp.array(order)) for order in ([0, 1, 2, 3, 3], [1, 2, 3, 4, 5], [0, 1, 2, 3])]
    for name, value in bad:
        with pytest.raises(InputError, match=rf"^task\.{name}: got [^\n]*$"):
            env.validate_task(task.replace(**{name: value}))
    other = DarkRoom() if isinstance(env, DarkKeyToDoor) else DarkKeyToDoor()
    with pytest.raises(InputError, match=r"^task: got "):
        env.validate_task(other.task(0))


@pytest.mark.parametrize("indices", [[], [81], [-1, 3], [0.0], [[1, 2]], [[1], [1, 2]], 3, "3", [True]], ids=str)
def test_bad_task_numbers_are_refused(indices):
    with pytest.raises(InputError, match=r"^indices: got "):
        TaskSet.of(DarkRoom(), indices)


@pytest.mark.parametrize(
    "index", [4, -5, 100, 2**40, 2**70, [0, 99], np.array([0, 99]), np.array([-5]), [[0]], [0.0], 1.0, "x", None, True,
              [True], [1, "x"], [[1], [1, 2]]],
    ids=str,
)  # fmt: skip
def test_an_index_outside_a_set_of_tasks_is_refused(index):
    tasks = TaskSet.of(DarkRoom(), [3, 1, 4, 15])
    with pytest.raises(
        InputError, match=r"^index: got [^\n]*, allowed: integers in \[-4, 3\], or a mask of 4 booleans$"
    ):
        tasks[index]
    with pytest.raises(InputError, match=r"^index: got slice"):
        tasks["a":]


def test_a_set_of_tasks_is_indexed_as_a_list_is():
    tasks = TaskSet.of(DarkRoom(), [3, 1, 4, 15])
    mask = np.array([False, True, False, True])
    for index, ids in ((0, [3]), (-1, [15]), (np.int64(2), [4]), ([3, 0, 0], [15, 3, 3]), (np.array([-4]), [3]),
                       (mask, [1, 15]), (slice(1, 3), [1, 4]), (slice(2, 99), [4, 15])):  # fmt: skip
        assert tasks[index].ids.tolist() == ids
    assert jax.jit(lambda i: tasks[i].ids)(jnp.array([2])).tolist() == [4]


def test_a_family_without_numbers_is_refused():
    from icrl.envs.gaussian_bandit import GaussianBandit

    with pytest.raises(InputError, match=r"^env: got 'GaussianBandit'"):
        TaskSet.of(GaussianBandit(), [0])


@pytest.mark.parametrize(
    "arguments, field",
    [((1, 0.5, 0), "num_tasks"), ((9, 0.01, 0), "train_fraction"), ((9, 1.0, 0), "train_fraction"),
     ((9, float("nan"), 0), "train_fraction"), ((9, 0.5, -1), "split_seed"), ((9, 0.5, 0.5), "split_seed")],
)  # fmt: skip
def test_bad_splits_are_refused(arguments, field):
    with pytest.raises(InputError, match=rf"^{field}: got "):
        splits.shuffled_split(*arguments)


def test_a_repeated_set_has_each_task_several_times_with_ids_of_their_own():
    lives = TaskSet.of(DarkRoom(size=4), [5, 9]).repeat(3)
    np.testing.assert_array_equal(lives.params.goal, [[1, 1]] * 3 + [[2, 1]] * 3)
    np.testing.assert_array_equal(lives.ids, range(6))
    with pytest.raises(InputError, match="each: got 0"):
        lives.repeat(0)
