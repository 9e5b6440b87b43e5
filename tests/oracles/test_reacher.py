"""Reacher against gymnax's Reacher-misc, step by step, and what is ours: a goal that stays, seen or not."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.misc.reacher import EnvState

from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.envs.reacher import Reacher, ReacherState, ReacherTask


def test_it_plays_gymnax_s_game():
    """An episode from three starts; both in float32, whose rounding adds up along it."""
    theirs, params = gymnax.make("Reacher-misc")
    ours, rng = Reacher(goal="shown"), np.random.default_rng(0)
    step, its = jax.jit(ours.step_env), jax.jit(theirs.step_env)
    for seed in range(3):
        obs, state = theirs.reset_env(jax.random.key(seed), params)
        task = ReacherTask(goal=state.goal_xy, max_steps_in_episode=100)
        ours.validate_task(task)
        here = ReacherState(state.angles, state.angle_vels, jnp.int32(0))
        np.testing.assert_allclose(ours._observe(task, here), obs, atol=1e-6)
        state = EnvState(**{name: jnp.asarray(getattr(state, name)) for name in state.__dataclass_fields__})
        for t in range(100):
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            obs, state, reward, ended, _ = its(jax.random.key(t), state, action, params)
            found, here, earned, terminated, _ = step(jax.random.key(t), here, action, task)
            np.testing.assert_allclose(found, obs, atol=2e-5)
            assert float(earned) == pytest.approx(float(reward), abs=2e-5)
            assert not terminated and not ended
            cut = bool(theirs.is_truncated(state, params))
            assert bool(ours.is_truncated(here, task)) == cut == (t == 99)


def test_accelerations_are_cut_at_the_box():
    env = Reacher()
    state = ReacherState(jnp.zeros(2), jnp.zeros(2), jnp.int32(0))
    task = env.sample_task(jax.random.key(0))
    _, after, *_ = env.step_env(jax.random.key(0), state, jnp.array([7.0, -7.0]), task)
    np.testing.assert_allclose(after.speeds, [0.05, -0.05])


def test_a_goal_is_the_task_s_and_only_shown_if_asked():
    """The same goal in every episode; the last two numbers are all that the observations differ in."""
    hidden, shown = Reacher(horizon=5), Reacher(horizon=5, goal="shown")
    task = hidden.sample_task(jax.random.key(3))
    plays = [
        interact(jax.random.key(1), env, task, agents["uniform"].for_env(env), 15).history for env in (hidden, shown)
    ]
    np.testing.assert_array_equal(plays[0].obs, plays[1].obs[:, :-2])
    np.testing.assert_array_equal(plays[1].obs[:, -2:], np.broadcast_to(task.goal, (15, 2)))
    np.testing.assert_array_equal(plays[0].reward, plays[1].reward)


def test_a_hand_at_the_goal_earns_one():
    env = Reacher(joints=3)
    task = ReacherTask(goal=jnp.array([3.0, 0.0]), max_steps_in_episode=100)
    still = ReacherState(jnp.zeros(3), jnp.zeros(3), jnp.int32(0))
    assert float(env.step_env(jax.random.key(0), still, jnp.zeros(3), task)[2]) == 1.0


def test_goals_are_uniform_in_their_square():
    env = Reacher(joints=2)
    goals = np.asarray(jax.vmap(lambda key: env.sample_task(key).goal)(jax.random.split(jax.random.key(0), 4000)))
    assert np.abs(goals).max() <= 2 and np.abs(goals.mean(0)).max() < 4.3 * 4 / 12**0.5 / 4000**0.5


def test_what_is_refused():
    with pytest.raises(InputError, match=r"^task\.goal: got .*allowed: \(x, y\) in \[-2, 2\]\^2$"):
        Reacher().validate_task(ReacherTask(goal=jnp.array([2.5, 0.0]), max_steps_in_episode=100))
    with pytest.raises(InputError, match=r"^joints: got 0"):
        Reacher(joints=0)
    with pytest.raises(InputError, match=r"^goal: got 'seen'"):
        Reacher(goal="seen")
