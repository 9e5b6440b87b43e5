"""The tabular MDPs against exact constants, float64 backward induction and the laws they claim to draw from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.envs.random_mdp import RandomMDP
from icrl.envs.river_swim import RiverSwim
from icrl.envs.tabular import TabularState, TabularTask
from icrl.errors import InputError
from icrl.interact import interact
from icrl.registry import agents
from icrl.seeding import key_for
from icrl.tasks import TaskSet

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


@pytest.mark.parametrize("env", [SMALL, RandomMDP(), RiverSwim(num_states=3, horizon=9)], ids=str)
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
