"""Soft actor-critic: its memory and densities by day, its numbers by night."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.agents.sac import SAC
from icrl.core.action_heads import INSIDE, Squashed, normal_neg_log_prob
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
    """Both critics learn the reward of what ended, whatever would have followed; where nothing ends they do not."""
    _, last, _ = states
    from icrl.agents.sac import _worth

    found = _worth(last.networks.critics, last.buffer.obs, last.buffer.action)
    wanted = np.broadcast_to(last.buffer.reward, (2, 6))
    assert np.abs(found - wanted).mean() < 1.0 < np.abs(wanted - wanted.mean()).mean() + 0.5

    open_ended = last.buffer._replace(terminated=jnp.zeros(6, bool))
    learned = SMALL._learned(last.networks, open_ended, jnp.int32(6))
    assert not np.array_equal(learned.critics[0]["w"], SMALL._learned(last.networks, last.buffer, 6).critics[0]["w"])


def test_log_p_is_that_of_the_squashed_gaussian():
    actor, keys = SMALL.init(jax.random.key(3)).networks.actor, jax.random.split(jax.random.key(4), 200)
    from icrl.agents.sac import _policy

    obs = jnp.array([0.3])
    unit, log_prob = jax.vmap(lambda key: SMALL._sampled(key, actor, obs))(keys)
    mean, std = _policy(actor, obs)
    z = np.arctanh(np.asarray(unit, np.float64))
    slope = np.log(1 - np.asarray(unit, np.float64) ** 2).sum(-1)
    wanted = -np.asarray(normal_neg_log_prob(mean[None], std[None], jnp.asarray(z, jnp.float32))) - slope
    inside = np.abs(unit).max(-1) < 0.999
    np.testing.assert_allclose(log_prob[inside], wanted[inside], atol=2e-3)
    assert Squashed(BOX).size == 4 and INSIDE < 1


def test_learners_side_by_side_skip_updates_together():
    """The branch stays one under ``vmap``: else every random step would pay for an update."""
    keys = jax.random.split(jax.random.key(0), 3)

    def two_steps(key):
        state = SMALL.init(key)
        return SMALL.update(SMALL.update(state, transition(1)), transition(2))

    assert "cond[" in str(jax.make_jaxpr(jax.vmap(two_steps))(keys))


@pytest.mark.nightly
def test_point_robot_is_learned_to_a_twentieth_of_its_optimum():
    """The mean return of 20 greedy episodes in each of 3 tasks, after the settings of the class's docstring."""
    env = PointRobot()
    agent, tasks = SAC.for_env(env, **POINT_ROBOT), TaskSet.draw(env, 0, "test", 3).params
    greedy = greedy_returns(env, agent, tasks, 8000, 20)
    optimum = np.asarray(jax.vmap(env.optimal_return)(tasks))
    assert greedy.mean() >= 1.05 * optimum.mean()


@pytest.mark.nightly
def test_pendulum_is_swung_up():
    env = Pendulum()
    agent, tasks = SAC.for_env(env), TaskSet.draw(env, 0, "test", 1).params
    assert greedy_returns(env, agent, tasks, 20_000, 20).mean() >= -200


POINT_ROBOT = {"learning_rate": 1e-3, "entropy": -3.0}


def greedy_returns(env, agent, tasks, num_steps, episodes):
    """Returns [N, E] of greedy episodes behind ``num_steps`` of learning in each task."""
    count, horizon = len(jax.tree.leaves(tasks)[0]), env.spec.max_steps_in_episode

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

    states = learned(jax.random.split(jax.random.key(0), count), tasks)
    keys = jax.random.split(jax.random.key(1), (count, episodes))
    every = jax.vmap(jax.vmap(one_episode, in_axes=(0, None, None)))
    return np.asarray(jax.jit(every)(keys, tasks, states), np.float64)
