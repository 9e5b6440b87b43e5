"""Agents against slow float64 twins: the twin is shown the same history and must choose the same actions.

A twin is NumPy with direct inverses, written from the formula. A choice is left out when the twin's two best arms are
closer than ``TIE``, where float32 may fall on either side.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.agents.logistic_ts import NormalLaw
from icrl.core.interact import interact
from icrl.core.registry import agents, environments
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet

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
    features = getattr(tasks, "features", env.features)
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


def lived_with_obs(env, agent, num_tasks, num_steps):
    """Actions [N, T], rewards [N, T] and observations [N, T, O] of N lives."""
    tasks = TaskSet.draw(env, 0, "twins", num_tasks).params
    keys = keys_for(key_for(0, "twin lives"), np.arange(num_tasks, dtype=np.uint32))
    life = jax.jit(jax.vmap(lambda key, task: interact(key, env, task, agent, num_steps).history))
    history = life(keys, tasks)
    return np.asarray(history.action), np.asarray(history.reward, np.float64), np.asarray(history.obs, np.float64)


def by_night(env_name):
    return pytest.mark.nightly if env_name == "ShownLinearBandit-v0" else ()


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


def check_linucb(env, agent, num_tasks, steps=STEPS, beta=1.0):
    """``agent`` chooses as LinUCB with lam = 1 should."""
    _, features, action, reward = lived(env, agent, num_tasks, steps)

    def value(t, gram, moment, x):
        inverse = np.linalg.inv(gram)
        width = np.sqrt(np.einsum("nkd,nde,nke->nk", x, inverse, x))
        return np.einsum("nkd,nde,ne->nk", x, inverse, moment) + beta * width

    check(linear_index(value, features, action, reward, 1.0), action, first=1)


def check_lin_ts(env, agent, num_tasks, steps=STEPS, noise_std=0.3, prior_var=1.0):
    """``agent`` chooses as LinTS should, given the normal draws z: theta = mean + s L^-T z where V = L L^T."""
    keys, features, action, reward = lived(env, agent, num_tasks, steps)
    draws = normal_draws(keys, steps, env.dim)

    def value(t, gram, moment, x):
        mean = np.linalg.inv(gram) @ moment[:, :, None]
        turned = np.linalg.inv(np.linalg.cholesky(gram)).transpose(0, 2, 1) @ draws[:, t, :, None]
        return (x @ (mean + noise_std * turned))[..., 0]

    check(linear_index(value, features, action, reward, noise_std**2 / prior_var), action)


@SIZES
@pytest.mark.parametrize(("env_name", "beta"), [("LinearBandit-v0", 1.0), ("ShownLinearBandit-v0", 2.0)])
def test_linucb(env_name, beta, num_tasks):
    env = environments[env_name](horizon=STEPS)
    check_linucb(env, agents["linucb"].for_env(env), num_tasks, beta=beta)


@SIZES
@pytest.mark.parametrize(("env_name", "prior_var"), [("LinearBandit-v0", 0.5), ("ShownLinearBandit-v0", 1.0)])
def test_lin_ts(env_name, prior_var, num_tasks):
    env = environments[env_name](horizon=STEPS)
    agent = agents["lin-ts"].for_env(env)
    check_lin_ts(env, agent, num_tasks, noise_std=env.noise_std, prior_var=prior_var)


@SIZES
@pytest.mark.parametrize("env_name", [pytest.param(name, marks=by_night(name)) for name in LINEAR])
def test_oful(env_name, num_tasks):
    env = environments[env_name](horizon=STEPS)
    agent = agents["oful"].for_env(env, length=2.0, delta=0.1, lam=0.5)
    _, features, action, reward = lived(env, agent, num_tasks, STEPS)

    def value(t, gram, moment, x):
        inverse = np.linalg.inv(gram)
        gain = np.linalg.slogdet(gram / 0.5)[1]  # ln (det V / lam^d)
        beta = env.noise_std * np.sqrt(2 * np.log(1 / 0.1) + gain) + np.sqrt(0.5) * 2.0
        width = np.sqrt(np.einsum("nkd,nde,nke->nk", x, inverse, x))
        return np.einsum("nkd,nde,ne->nk", x, inverse, moment) + beta[:, None] * width

    check(linear_index(value, features, action, reward, 0.5), action)


@SIZES
@pytest.mark.parametrize("env_name", ["ShownLinearBandit-v0", "RandomWalkBandit-v0"])
def test_disjoint_linucb(env_name, num_tasks):
    """With features of the arms, and with one context for all of them (here the constant 1)."""
    env = environments[env_name](horizon=STEPS)
    agent = agents["linucb-disjoint"].for_env(env)
    _, features, action, reward = lived(env, agent, num_tasks, STEPS)
    x = np.ones((num_tasks, env.num_actions, 1)) if features is None else features
    gram = np.tile(np.eye(x.shape[-1]), (num_tasks, env.num_actions, 1, 1))
    moment, index = np.zeros_like(x), np.zeros((num_tasks, STEPS, env.num_actions))
    for t in range(STEPS):
        inverse = np.linalg.inv(gram)
        width = np.sqrt(np.einsum("nkd,nkde,nke->nk", x, inverse, x))
        index[:, t] = np.einsum("nkd,nkde,nke->nk", x, inverse, moment) + agent.alpha * width
        pulled = np.eye(env.num_actions)[action[:, t]][..., None] * x
        gram += pulled[..., :, None] * pulled[..., None, :]
        moment += reward[:, t, None, None] * pulled
    check(index, action, first=env.num_actions if features is None else 1)


@SIZES
def test_linear_agents_with_fresh_features(num_tasks):
    """LinUCB where every pull has features of its own, read off the observations."""
    env = environments["ContextualLinearBandit-v0"](horizon=50)
    agent = agents["linucb"].for_env(env)
    action, reward, obs = lived_with_obs(env, agent, num_tasks, 50)
    x = obs.reshape(num_tasks, 50, env.num_actions, env.dim)
    gram, moment = np.tile(np.eye(env.dim), (num_tasks, 1, 1)), np.zeros((num_tasks, env.dim))
    index = np.zeros((num_tasks, 50, env.num_actions))
    for t in range(50):
        inverse = np.linalg.inv(gram)
        width = np.sqrt(np.einsum("nkd,nde,nke->nk", x[:, t], inverse, x[:, t]))
        index[:, t] = np.einsum("nkd,nde,ne->nk", x[:, t], inverse, moment) + agent.beta * width
        pulled = x[np.arange(num_tasks), t, action[:, t]]
        gram += pulled[:, :, None] * pulled[:, None, :]
        moment += reward[:, t, None] * pulled
    check(index, action, first=1)


def test_logistic_ts_keeps_laplace_s_posterior():
    """Mean and covariance after 20 pulls against float64 Newton steps in all d dimensions and direct inverses."""
    env = environments["ContextualLogisticBandit-v0"](horizon=20)
    agent = agents["logistic-ts"].for_env(env)
    tasks = TaskSet.draw(env, 0, "twins", 12).params
    keys = keys_for(key_for(0, "twin lives"), np.arange(12, dtype=np.uint32))
    found = jax.jit(jax.vmap(lambda key, task: interact(key, env, task, agent, 20)))(keys, tasks)
    obs = np.asarray(found.history.obs, np.float64).reshape(12, 20, env.num_actions, env.dim)
    for i in range(12):
        mean, precision = np.zeros(env.dim), np.eye(env.dim)
        for t in range(20):
            x, reward = obs[i, t, found.history.action[i, t]], float(found.history.reward[i, t])
            mode = mean.copy()
            for _ in range(10):
                chance = 1 / (1 + np.exp(-mode @ x))
                slope = precision @ (mode - mean) - (reward - chance) * x
                mode -= np.linalg.inv(precision + chance * (1 - chance) * np.outer(x, x)) @ slope
            chance = 1 / (1 + np.exp(-mode @ x))
            mean, precision = mode, precision + chance * (1 - chance) * np.outer(x, x)
        np.testing.assert_allclose(found.agent_state.mean[i], mean, atol=1e-4)
        np.testing.assert_allclose(found.agent_state.cov[i], np.linalg.inv(precision), atol=1e-4)


def test_logistic_ts_draws_from_its_law():
    """First two moments of <theta, x_a> over 100 000 draws at a covariance made by hand."""
    env = environments["ContextualLogisticBandit-v0"](dim=3, num_arms=2)
    agent = agents["logistic-ts"].for_env(env)
    root = np.array([[1.0, 0, 0], [0.5, 0.8, 0], [-0.3, 0.2, 0.4]])
    law = NormalLaw(jnp.array([0.1, -0.4, 0.3]), jnp.array(root @ root.T, jnp.float32))
    x = np.array([[0.6, 0.8, 0.0], [0.0, -0.6, 0.8]])
    z = jax.random.normal(key_for(0, "moments"), (100_000, 3))
    values = np.asarray(jax.vmap(lambda z: agent.values(law, jnp.array(x.reshape(-1), jnp.float32), z))(z), np.float64)
    np.testing.assert_allclose(values.mean(0), x @ np.array([0.1, -0.4, 0.3]), atol=4.3 / np.sqrt(100_000))
    np.testing.assert_allclose(np.cov(values.T), x @ root @ root.T @ x.T, atol=4.3 * np.sqrt(2 / 100_000))


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
