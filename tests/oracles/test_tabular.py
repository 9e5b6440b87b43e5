"""The tabular MDPs against exact constants, float64 backward induction and the laws they claim to draw from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.envs._tabular import TabularState, TabularTask
from icrl.envs.chain import Chain
from icrl.envs.deep_sea import DeepSea, DeepSeaStochastic
from icrl.envs.garnet import Garnet
from icrl.envs.random_mdp import RandomMDP
from icrl.envs.river_swim import RiverSwim

GATE = 4.3
SMALL = RandomMDP(num_states=4, num_actions=3, horizon=5)


def plain_values(transition, reward, horizon):
    """Q* [H, S, K] by loops over steps, states and actions, float64."""
    num_states, num_actions = reward.shape
    q, value = np.zeros((horizon, num_states, num_actions)), np.zeros(num_states)
    for h in reversed(range(horizon)):
        for s in range(num_states):
            for a in range(num_actions):
                q[h, s, a] = reward[s, a] + sum(transition[s, a, n] * value[n] for n in range(num_states))
        value = q[h].max(-1)
    return q


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("horizon", "optimum", "uniform"),  # exact, from a separate program
    [(20, 3.397264, 0.043789), (50, 16.072108, 0.126849), (100, 37.502947, 0.265777)],
)
def test_river_swim_is_the_published_one(horizon, optimum, uniform):
    env = RiverSwim(horizon=horizon)
    task = env.default_params
    assert float(env.optimal_return(task)) == pytest.approx(optimum, abs=1e-4)
    transition, reward, value = np.asarray(task.transition, float), np.asarray(task.reward, float), np.zeros(6)
    for _ in range(horizon):
        value = (reward + transition @ value).mean(-1)
    assert value[0] == pytest.approx(uniform, abs=1e-6)


@pytest.mark.parametrize(
    "env", [SMALL, pytest.param(RandomMDP(), marks=pytest.mark.nightly), RiverSwim(num_states=3, horizon=9)], ids=str
)
def test_values_are_those_of_plain_backward_induction(env):
    tasks = TaskSet.draw(env, 0, "values", 5).params
    for i in range(5):
        task = jax.tree.map(lambda leaf, i=i: leaf[i], tasks)
        wanted = plain_values(np.asarray(task.transition, float), np.asarray(task.reward, float), env.horizon)
        np.testing.assert_allclose(task.q, wanted, rtol=1e-5, atol=1e-5)
        time, states = jnp.int32(1), jnp.arange(env.num_states)
        at = TabularState(states, jnp.full(env.num_states, time))
        each = jax.vmap(jax.vmap(env.regret, (None, None, 0)), (None, 0, None))
        lost = wanted[1].max(-1, keepdims=True) - wanted[1]
        np.testing.assert_allclose(each(task, at, jnp.arange(env.num_actions)), lost, atol=1e-4)
        best = np.asarray(jax.vmap(env.optimal_action, (None, 0))(task, at))
        assert np.all(lost[np.arange(env.num_states), best] <= 1e-4)


def test_optimum_of_random_mdps():
    """Mean V* 21.827 (s.e. .010, 50 000 tasks); uniform play earns the mean reward, 1 a step. 2 000 tasks."""
    env = RandomMDP()
    tasks = TaskSet.draw(env, 3, "optimum", 2000).params
    optimum = np.asarray(jax.vmap(env.optimal_return)(tasks), np.float64)
    assert abs(optimum.mean() - 21.827) <= GATE * np.hypot(optimum.std() / 2000**0.5, 0.010)
    uniform = agents["uniform"].for_env(env)
    life = jax.jit(jax.vmap(lambda key, task: interact(key, env, task, uniform, 30).curves))
    curves = life(jax.random.split(key_for(0, "uniform"), 2000), tasks)
    total = np.asarray(curves.reward, np.float64).sum(1)
    assert abs(total.mean() - 30) <= GATE * total.std() / 2000**0.5
    lost = 3 * optimum - np.asarray(curves.regret, np.float64).sum(1) - total  # regret is true in expectation
    assert abs(lost.mean()) <= GATE * lost.std() / 2000**0.5


# -- laws -------------------------------------------------------------------------------------------------------------


def test_prior_of_random_mdps():
    """First two moments over 4 000 tasks: rewards N(1, 1), entries of a Dirichlet(1) row Beta(1, S - 1)."""
    tasks = TaskSet.draw(RandomMDP(num_actions=2), 1, "prior", 4000).params
    for field, mean, variance in (("reward", 1.0, 1.0), ("transition", 0.1, 0.1 * 0.9 / 11)):
        table = np.asarray(getattr(tasks, field), np.float64).reshape(4000, -1)[:, ::7]  # 7: not within a row only
        assert abs(table.mean() - mean) <= GATE * np.sqrt(variance / table.size)
        squares = np.square(table - mean)
        assert abs(squares.mean() - variance) <= GATE * squares.std() / np.sqrt(table.size)


def test_steps_follow_the_tables():
    """100 000 draws of a row with two impossible states: counts, mean and variance of the reward, independence."""
    env = RandomMDP(num_states=5, num_actions=2, noise_std=0.5)
    probs, draws = np.array([0.0, 0.3, 0.5, 0.2, 0.0]), 100_000
    task = env.default_params
    task = env.task_of(task.transition.at[2, 1].set(probs), task.reward.at[2, 1].set(0.7))
    env.validate_task(task)
    step = jax.vmap(lambda key: env.step_env(key, TabularState(jnp.int32(2), jnp.int32(0)), jnp.int32(1), task))
    obs, state, reward, *_ = step(jax.random.split(key_for(0, "steps"), draws))
    assert np.array_equal(obs[:, 0], state.position)
    counts = np.bincount(np.asarray(state.position), minlength=5)
    assert counts[0] == counts[4] == 0
    expected = draws * probs[1:4]
    assert np.sum(np.square(counts[1:4] - expected) / expected) <= 2 + GATE * 2
    noise = np.asarray(reward, np.float64) - 0.7
    assert abs(noise.mean()) <= GATE * 0.5 / draws**0.5
    assert abs(np.square(noise).mean() - 0.25) <= GATE * 0.25 * (2 / draws) ** 0.5
    away = np.asarray(state.position) - 2 + 0.1
    assert abs(np.corrcoef(noise, away)[0, 1]) <= GATE / draws**0.5


def test_random_states_are_uniform():
    env = RiverSwim()
    keys = jax.random.split(key_for(0, "states"), 6000)
    obs, state = jax.vmap(env.random_state, (0, None))(keys, env.default_params)
    assert np.array_equal(obs[:, 0], state.position)
    counts = np.bincount(np.asarray(jax.vmap(env.spec.state_index)(obs)), minlength=6)
    assert np.square(counts - 1000).sum() / 1000 <= 5 + GATE * np.sqrt(10)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting", [{"num_states": 1}, {"num_states": 513}, {"num_actions": 0}, {"num_actions": 2.0}, {"concentration": 0},
                {"reward_mean": float("nan")}, {"reward_std": -1.0}],
    ids=str,
)  # fmt: skip
def test_bad_settings_are_refused(setting):
    with pytest.raises(InputError, match=rf"^{next(iter(setting))}: got [^\n]*$"):
        RandomMDP(**setting)


@pytest.mark.parametrize(
    ("family", "setting"),
    [(DeepSea, {"horizon": 23}), (DeepSea, {"slips": 1}), (Chain, {"slip": 1.5}), (Garnet, {"branching": 0}),
     (Garnet, {"num_states": 2, "branching": 3})],
)  # fmt: skip
def test_bad_settings_of_small_worlds_are_refused(family, setting):
    with pytest.raises(InputError, match=rf"^{[*setting][-1]}: got [^\n]*$"):
        family(**setting)


def test_bad_tasks_are_refused():
    task = SMALL.default_params
    bad = {
        "transition": (-task.transition, task.transition * 1.01, task.transition.astype(jnp.float16)),
        "reward": (task.reward.astype(jnp.int32),),
        "q": (task.q + 0.01, task.q * 0),
    }
    for name, values in bad.items():
        for value in values:
            with pytest.raises(InputError, match=rf"^task\.{name}: got [^\n]*$"):
                SMALL.validate_task(task.replace(**{name: value}))
    with pytest.raises(InputError, match=r"^task\.max_steps_in_episode: got 6, allowed: an integer in \[5, 5\]"):
        SMALL.validate_task(task.replace(max_steps_in_episode=6))
    with pytest.raises(InputError, match=r"^task\.\w+: got "):
        SMALL.validate_task(TabularTask())


# -- deep sea, chain, Garnet ------------------------------------------------------------------------------------------


def dive(size, slips):
    """P [N^2, 2, N^2] and r of the deep sea where action 1 goes right, in loops, from bsuite's rules; float64."""
    transition, reward = np.zeros((size**2, 2, size**2)), np.zeros((size**2, 2))
    for row in range(size):
        for column in range(size):
            s = row * size + column
            left, right = max(column - 1, 0), min(column + 1, size - 1)
            for a, landing in ((0, [(1.0, left)]), (1, [(1 - slips, right), (slips, column)])):
                for chance, to in landing:
                    transition[s, a, (row + 1) * size + to if row < size - 1 else 0] += chance
            reward[s, 1] = (column == size - 1) - 0.01 / size
    return transition, reward


@pytest.mark.parametrize("env", [DeepSea(horizon=4), DeepSeaStochastic(horizon=4)], ids=str)
def test_deep_sea_is_that_of_bsuite(env):
    size = env.horizon
    transition, reward = dive(size, 1 / size if env.slips else 0.0)
    task = env.task_where(jnp.ones(size**2, jnp.int32))
    np.testing.assert_allclose(task.transition, transition, atol=1e-6)
    np.testing.assert_allclose(task.reward, reward, atol=1e-6)
    q = 1 - 1 / size if env.slips else 1.0
    optimum = q ** (size - 1) - 0.01 * (1 - q**size) if env.slips else 0.99
    mixed = np.arange(size**2) % 3 % 2
    for right in (np.ones_like(mixed), mixed):  # what the actions are called changes nothing
        task = env.task_where(jnp.asarray(right, jnp.int32))
        assert float(env.optimal_return(task)) == pytest.approx(optimum, abs=1e-6)
        on_course = np.arange(size) * (size + 1)
        for h, s in enumerate(on_course):
            state = TabularState(jnp.int32(s), jnp.int32(h))
            assert int(env.optimal_action(task, state)) == right[s]
    noise = np.asarray(env.noise_at(jnp.arange(size**2)))
    assert np.flatnonzero(noise).tolist() == ([size * (size - 1), size**2 - 1] if env.slips else [])


def test_chain_earns_what_its_stationary_distribution_says():
    """Forward for ever: .8^4 of the time at the end, so .8^4 x .8 x 10 + .2 x 2 = 3.6768 a step."""
    env = Chain(horizon=1000)
    optimum = env.optimal_return(env.default_params)
    assert float(optimum) == pytest.approx(3665.84, abs=0.01)
    late = env.default_params.q[400, 0].max() - env.default_params.q[401, 0].max()
    assert float(late) == pytest.approx(3.6768, abs=2e-3)
    assert int(env.optimal_action(env.default_params, TabularState(jnp.int32(0), jnp.int32(0)))) == 0


def test_garnets_reach_few_states_all_alike():
    """3 of 7 states from every pair; each state equally often, the largest share of Dirichlet(1) has mean 11/18."""
    tasks = TaskSet.draw(Garnet(num_states=7, num_actions=2, branching=3, horizon=3), 1, "garnet", 1000).params
    rows = np.asarray(tasks.transition, np.float64).reshape(-1, 7)
    reached = rows > 0
    assert np.all(reached.sum(-1) == 3)
    assert np.square(reached.sum(0) - 6000).sum() / (6000 * 4 / 7) <= (6 + GATE * np.sqrt(12))
    for share, mean in ((rows.max(-1), 11 / 18), (np.square(rows).sum(-1), 1 / 2)):
        assert abs(share.mean() - mean) <= GATE * share.std() / share.size**0.5
    reward = np.asarray(tasks.reward, np.float64).ravel()
    assert abs(reward.mean() - 0.5) <= GATE * np.sqrt(1 / 12 / reward.size)
    assert reward.min() >= 0.0
    assert reward.max() <= 1.0
