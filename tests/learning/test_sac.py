"""Soft actor-critic: its memory and densities by day, its numbers by night."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icrl.agents.sac import SAC, _policy, _worth
from icrl.core.boxes import Box
from icrl.core.interact import interact
from icrl.core.tasks import TaskSet
from icrl.core.types import Transition
from icrl.envs.pendulum import Pendulum
from icrl.envs.point_robot import PointRobot

BOX = Box.cube(2, 3.0)
SMALL = SAC(obs_dim=1, box=BOX, hidden=8, buffer_size=6, batch_size=16, random_steps=4, learning_rate=0.01, tuned=False)


def transition(number, terminated=True):
    obs = jnp.full(1, number, jnp.float32)
    action = jnp.array([number / 10, -9.0])
    return Transition(obs, action, jnp.float32(number), obs + 1, jnp.bool_(terminated), jnp.bool_(False))


@pytest.fixture(scope="module")
def states():
    """After each of 400 transitions that end with the reward that was seen, 0 .. 9 in turn."""
    start = SMALL.init(jax.random.key(0))

    def step(state, t):
        state = SMALL.update(state, transition(t % 10))
        return state, (state.buffer, state.networks.critics, state.networks.actor)

    last, every = jax.jit(partial(jax.lax.scan, step))(start, jnp.arange(400))
    return start, last, every


def test_the_buffer_is_a_ring_of_clipped_actions(states):
    _, last, (buffers, *_) = states
    assert np.sort(np.asarray(buffers.obs[3, :, 0])).tolist() == [0, 0, 0, 1, 2, 3]
    assert np.sort(np.asarray(last.buffer.obs[:, 0])).tolist() == [4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(last.buffer.action[:, 0] * 30, last.buffer.obs[:, 0], atol=1e-5)
    assert np.all(last.buffer.action[:, 1] == -1)
    assert int(last.count) == 400


def test_nothing_is_learned_from_the_random_steps(states):
    start, _, (_, critics, actor) = states
    for first, every in ((start.networks.critics, critics), (start.networks.actor, actor)):
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(every), strict=True):
            assert np.array_equal(a, b[2])
            assert not np.array_equal(b[2], b[3]) or not np.any(a)


def test_a_terminated_step_is_worth_its_reward_alone(states):
    """Both critics have learned the rewards 4 .. 9 of what ended, whatever would have followed."""
    _, last, _ = states
    found = np.asarray(_worth(last.networks.critics, last.buffer.obs, last.buffer.action))
    assert np.abs(found - np.asarray(last.buffer.reward)).mean() < 1.0  # a guess of their mean is off by 1.5
    goes_on = last.buffer._replace(terminated=jnp.zeros(6, bool))
    one, other = (SMALL._learned(last.networks, each, jnp.int32(6)).critics for each in (last.buffer, goes_on))
    assert not np.array_equal(one[0]["w"], other[0]["w"])


def test_log_p_is_that_of_a_squashed_gaussian():
    """Samples taken back through tanh, and its slope, in float64."""
    actor, obs = SMALL.init(jax.random.key(3)).networks.actor, jnp.array([0.3])
    keys = jax.random.split(jax.random.key(4), 200)
    unit, log_prob = (np.asarray(x, np.float64) for x in jax.vmap(lambda key: SMALL._sampled(key, actor, obs))(keys))
    inside = np.abs(unit).max(-1) < 0.999
    mean, std = (np.asarray(x, np.float64) for x in _policy(actor, obs))
    wanted = (stats.norm(mean, std).logpdf(np.arctanh(unit[inside])) - np.log(1 - unit[inside] ** 2)).sum(-1)
    np.testing.assert_allclose(log_prob[inside], wanted, atol=2e-3)


def test_learners_side_by_side_skip_updates_together():
    """The branch stays one under ``vmap``: else every random step would pay for an update."""
    keys = jax.random.split(jax.random.key(0), 3)

    def two_steps(key):
        state = SMALL.init(key)
        return SMALL.update(SMALL.update(state, transition(1)), transition(2))

    assert "cond[" in str(jax.make_jaxpr(jax.vmap(two_steps))(keys))


@pytest.mark.nightly
def test_point_robot_is_learned_to_a_twentieth_of_its_optimum():
    """Mean cost of 100 greedy episodes on two goals; 1.021 times the optimum's was measured."""
    env = PointRobot()
    agent = SAC.for_env(env)
    tasks = TaskSet.draw(env, 0, "test", 2).params
    greedy = greedy_returns(env, agent, tasks, 12_000, 100)
    optimum = np.asarray(jax.vmap(env.optimal_return)(tasks))
    assert greedy.mean() >= 1.05 * optimum.mean()


@pytest.mark.nightly
def test_pendulum_is_swung_up():
    """Return of 100 greedy episodes; -153 was measured."""
    env = Pendulum()
    agent, tasks = SAC.for_env(env), TaskSet.draw(env, 0, "test", 1).params
    assert greedy_returns(env, agent, tasks, 10_000, 100).mean() >= -200


def greedy_returns(env, agent, tasks, num_steps, episodes):
    """Returns [N, E] of greedy episodes behind ``num_steps`` of learning in each task."""
    horizon = env.spec.max_steps_in_episode

    @jax.jit
    @jax.vmap
    def learned(key, task):
        return interact(key, env, task, agent, num_steps).agent_state

    def one_episode(key, task, state):
        obs, start = env.reset_env(key, task)

        def step(carry, own):
            obs, now = carry
            obs, now, reward, *_ = env.step_env(own, now, agent.act_greedy(own, state, obs), task)
            return (obs, now), reward

        return jax.lax.scan(step, (obs, start), jax.random.split(jax.random.fold_in(key, 1), horizon))[1].sum()

    leaves = jax.tree.leaves(tasks)
    count = len(leaves[0]) if leaves else 1  # Pendulum's one task holds no array
    states = learned(jax.random.split(jax.random.key(0), count), tasks)
    keys = jax.random.split(jax.random.key(1), (count, episodes))
    every = jax.vmap(jax.vmap(one_episode, in_axes=(0, None, None)))
    return np.asarray(jax.jit(every)(keys, tasks, states), np.float64)
