"""Agents against slow float64 twins: the twin is shown the same history and must choose the same actions.

A twin is NumPy with direct inverses, written from the formula. A choice is left out when the twin's two best arms are
closer than ``TIE``, where float32 may fall on either side.
"""

import jax
import numpy as np
import pytest

from icrl.interact import interact
from icrl.registry import agents, environments
from icrl.seeding import key_for, keys_for
from icrl.tasks import TaskSet

TASKS, STEPS, TIE = 200, 200, 1e-4
UNTRIED = 1000.0  # the index of arm 0 before its first pull, above all others
FLAT = ("GaussianBandit-v0", "BernoulliBandit-v0")
LINEAR = ("LinearBandit-v0", "ShownLinearBandit-v0")


def lived(env, agent, num_tasks, num_steps):
    """Keys [N], features [N, K, d] or None, and the history of N lives as float64 NumPy, [N, T, ...]."""
    tasks = TaskSet.draw(env, 0, "twins", num_tasks).params
    keys = keys_for(key_for(0, "twin lives"), np.arange(num_tasks, dtype=np.uint32))
    life = jax.jit(jax.vmap(lambda key, task: interact(key, env, task, agent, num_steps).history))
    history = life(keys, tasks)
    features = getattr(tasks, "features", getattr(env, "features", None))
    if features is not None:
        shape = (num_tasks, *features.shape[-2:])
        features = np.broadcast_to(np.asarray(features, np.float64), shape)
    return keys, features, np.asarray(history.action), np.asarray(history.reward, np.float64)


def normal_draws(keys, num_steps, dim):
    """The draws [N, T, d] that a life under ``interact`` hands to an agent which draws d normals per action."""

    def one(key):
        key_acts = jax.random.split(jax.random.split(key)[1])[1]
        draw = jax.vmap(lambda t: jax.random.normal(jax.random.fold_in(key_acts, t), (dim,)))
        return draw(np.arange(num_steps, dtype=np.uint32))

    return np.asarray(jax.jit(jax.vmap(one))(keys), np.float64)


def check(index, action, first=0):
    """``action`` [N, T] is the argmax of ``index`` [N, T, K] from step ``first`` on wherever the best is clear."""
    second, best = np.moveaxis(np.sort(index, axis=-1)[..., -2:], -1, 0)
    clear = best - second > TIE * np.maximum(1.0, np.abs(best))
    clear[:, :first] = False
    assert clear[:, first:].mean() > 0.85
    wrong = clear & (index.argmax(-1) != action)
    assert wrong.sum() == 0, f"{wrong.sum()} of {clear.sum()} choices differ, first at {np.argwhere(wrong)[0]}"


def arm_index(bonus, action, reward, num_arms):
    """m_a + bonus(t, n_a) before each step, [N, T, K]; arms never pulled come first, in order."""
    num_tasks, num_steps = action.shape
    count, total = np.zeros((num_tasks, num_arms)), np.zeros((num_tasks, num_arms))
    rows = np.zeros((num_tasks, num_steps, num_arms))
    for t in range(num_steps):
        n = np.maximum(count, 1)
        rows[:, t] = np.where(count == 0, UNTRIED - np.arange(num_arms), total / n + bonus(t, n))
        pulled = np.eye(num_arms)[action[:, t]]
        count += pulled
        total += pulled * reward[:, t, None]
    return rows


def linear_index(value, features, action, reward, ridge):
    """value(t, V, b, X) [N, K] before each step, where V = ridge I + sum x x^T and b = sum r x; [N, T, K]."""
    num_tasks, num_steps = action.shape
    dim = features.shape[-1]
    gram, moment = np.tile(ridge * np.eye(dim), (num_tasks, 1, 1)), np.zeros((num_tasks, dim))
    rows = np.zeros((num_tasks, num_steps, features.shape[1]))
    for t in range(num_steps):
        rows[:, t] = value(t, gram, moment, features)
        x = features[np.arange(num_tasks), action[:, t]]
        gram += x[:, :, None] * x[:, None, :]
        moment += reward[:, t, None] * x
    return rows


SIZES = pytest.mark.parametrize("num_tasks", [TASKS, pytest.param(1000, marks=pytest.mark.nightly)])


@SIZES
@pytest.mark.parametrize("env_name", FLAT)
@pytest.mark.parametrize("name", ["ucb", "ucb1", "empirical-mean"])
def test_index_agents(name, env_name, num_tasks):
    env = environments[env_name](horizon=STEPS)
    bonus = {
        "ucb": lambda t, n: 1 / np.sqrt(n),
        "ucb1": lambda t, n: np.sqrt(2 * np.log(max(t, 1)) / n),
        "empirical-mean": lambda t, n: 0.0,
    }[name]
    _, _, action, reward = lived(env, agents[name].for_env(env), num_tasks, STEPS)
    check(arm_index(bonus, action, reward, env.num_actions), action)


@SIZES
@pytest.mark.parametrize("env_name", LINEAR)
def test_linucb(env_name, num_tasks):
    env = environments[env_name](horizon=STEPS)
    agent = agents["linucb"].for_env(env)
    _, features, action, reward = lived(env, agent, num_tasks, STEPS)

    def value(t, gram, moment, x):
        inverse = np.linalg.inv(gram)
        width = np.sqrt(np.einsum("nkd,nde,nke->nk", x, inverse, x))
        return np.einsum("nkd,nde,ne->nk", x, inverse, moment) + agent.beta * width

    check(linear_index(value, features, action, reward, agent.lam), action, first=1)


@SIZES
@pytest.mark.parametrize("env_name", LINEAR)
def test_lin_ts(env_name, num_tasks):
    """Given the normal draws z: theta = mean + s L^-T z where V = L L^T."""
    env = environments[env_name](horizon=STEPS)
    agent = agents["lin-ts"].for_env(env)
    keys, features, action, reward = lived(env, agent, num_tasks, STEPS)
    draws = normal_draws(keys, STEPS, env.dim)

    def value(t, gram, moment, x):
        mean = np.linalg.inv(gram) @ moment[:, :, None]
        turned = np.linalg.inv(np.linalg.cholesky(gram)).transpose(0, 2, 1) @ draws[:, t, :, None]
        return (x @ (mean + agent.noise_std * turned))[..., 0]

    check(linear_index(value, features, action, reward, agent.noise_std**2 / agent.prior_var), action)


@SIZES
def test_thompson_gaussian(num_tasks):
    env = environments["GaussianBandit-v0"](horizon=STEPS)
    keys, _, action, reward = lived(env, agents["thompson-gaussian"].for_env(env), num_tasks, STEPS)
    draws = normal_draws(keys, STEPS, env.num_actions)
    count, total = np.zeros((num_tasks, 5)), np.zeros((num_tasks, 5))
    index = np.zeros((num_tasks, STEPS, 5))
    for t in range(STEPS):
        precision = 12 + count / 0.09
        index[:, t] = (6 + total / 0.09) / precision + draws[:, t] / np.sqrt(precision)
        pulled = np.eye(5)[action[:, t]]
        count, total = count + pulled, total + pulled * reward[:, t, None]
    check(index, action)


@pytest.mark.parametrize("name", ["linucb", "lin-ts"])
def test_regret_does_not_grow_linearly(name):
    """R(4T) / R(T) < 3 at T = 100, 2 000 tasks; a linear regret has 4, these have 1.4."""
    env = environments["LinearBandit-v0"](horizon=400)
    agent = agents[name].for_env(env)
    tasks = TaskSet.draw(env, 0, "slope", 2000).params
    life = jax.jit(jax.vmap(lambda key, task: interact(key, env, task, agent, 400).curves.regret))
    regret = np.asarray(life(jax.random.split(key_for(0, "slope"), 2000), tasks), np.float64).mean(0).cumsum()
    assert regret[399] / regret[99] < 3
