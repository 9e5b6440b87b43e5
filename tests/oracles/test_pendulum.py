"""Pendulum against gymnasium's Pendulum-v1, action by action, and POPGym's variants against the plain one."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from popgym.envs import PositionOnlyPendulum

from icrl.core.errors import InputError
from icrl.envs.pendulum import Pendulum, PendulumState


def test_it_plays_gymnasium_s_game():
    """200 steps with torques beyond the limits, from 3 starts; both in their own precision."""
    theirs, ours = gymnasium.make("Pendulum-v1"), Pendulum()
    task, rng = ours.default_params, np.random.default_rng(0)
    step = jax.jit(ours.step_env)
    for seed in range(3):
        obs, _ = theirs.reset(seed=seed)
        angle, speed = theirs.unwrapped.state
        state = PendulumState(jnp.int32(0), jnp.float32(angle), jnp.float32(speed))
        for t in range(200):
            action = rng.uniform(-3, 3, 1).astype(np.float32)
            obs, reward, terminated, truncated, _ = theirs.step(action)
            found, state, earned, ended, _ = step(jax.random.key(t), state, action, task)
            # a swing amplifies float32's rounding; where the angle wraps round a step earlier, the cost jumps
            state = PendulumState(state.time, *map(jnp.float32, theirs.unwrapped.state))
            np.testing.assert_allclose(found, obs, atol=2e-5)
            assert float(earned) == pytest.approx(float(reward), rel=1e-4, abs=1e-5)
            assert not ended and not terminated and bool(ours.is_truncated(state, task)) == truncated


@pytest.mark.parametrize("length", [200, 100])
def test_it_plays_popgym_s_game(length):
    """What is seen and earned from random states, and when it ends."""
    theirs, ours = (
        PositionOnlyPendulum(max_episode_length=length),
        Pendulum(shows="position", scaled=True, steps=length),
    )
    task, rng, step = ours.default_params, np.random.default_rng(1), jax.jit(ours.step_env)
    theirs.reset(seed=0)
    for t in range(length):
        angle, speed = theirs.state = rng.uniform([-6, -8], [6, 8])
        state = PendulumState(jnp.int32(t), jnp.float32(angle), jnp.float32(speed))
        action = rng.uniform(-2, 2, 1).astype(np.float32)
        obs, reward, _, truncated, _ = theirs.step(action)
        found, state, earned, _, _ = step(jax.random.key(t), state, action, task)
        np.testing.assert_allclose(found, obs, atol=2e-5)
        assert float(earned) == pytest.approx(float(reward), abs=1e-6)
        assert bool(ours.is_truncated(state, task)) == truncated


def rollout(env, num_steps=50):
    """Observations and rewards under the same torques and draws."""
    task, key = env.default_params, jax.random.key(1)
    obs, state = env.reset_env(key, task)
    seen, earned = [obs], []
    for t in range(num_steps):
        obs, state, reward, *_ = env.step_env(jax.random.fold_in(key, t), state, jnp.array([1.5 * (-1) ** t]), task)
        seen.append(obs)
        earned.append(reward)
    return np.stack(seen), np.stack(earned)


def test_variants_of_popgym():
    """Hidden velocity, their scale of rewards, and noise that is cut where cosines end."""
    obs, reward = rollout(Pendulum())
    hidden, scaled = rollout(Pendulum(shows="position", scaled=True))
    np.testing.assert_array_equal(hidden, obs[:, :2])
    np.testing.assert_allclose(scaled, (reward + 8.1368022) / 8.1368022 / 200, rtol=1e-4, atol=1e-7)
    noisy, _ = rollout(Pendulum(shows="position", noise=0.3), 200)
    clean, _ = rollout(Pendulum(shows="position"), 200)
    assert np.abs(noisy).max() == 1.0
    inside = np.abs(clean) < 0.1  # five standard deviations from the cut are out of reach, three are not
    assert abs(np.std((noisy - clean)[inside]) / 0.3 - 1) <= 0.25


def test_its_optimum_is_not_known_and_who_needs_it_is_told():
    with pytest.raises(InputError, match=r"^oracle: got True, allowed: False: the optimum of Pendulum is not known"):
        gymnasium.make("icrl:icrl/Pendulum-v0", oracle=True)
    from icrl.core.registry import agents

    for name in ("oracle", "annealed-oracle"):
        with pytest.raises(InputError, match=r"^env: got 'Pendulum', allowed: one whose optimum is known"):
            agents[name].for_env(Pendulum())
