"""What stands between the player and CartPole: a projection that keeps angles, and actions that change places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.envs.projected_cart_pole import ProjectedCartPole


def test_behind_the_projection_it_is_the_same_game():
    env = ProjectedCartPole()
    task = env.sample_task(jax.random.key(3)).replace(swapped=jnp.bool_(True))
    np.testing.assert_allclose(task.projection.T @ task.projection, 2 * np.eye(2), atol=1e-5)
    key = jax.random.key(0)
    (seen, state), (shown, plain) = env.reset_env(key, task), env.game.reset_env(key, task)
    for action in (0, 1, 1, 0):
        np.testing.assert_allclose(task.projection.T @ seen / 2, shown, atol=1e-5)
        seen, state, *_ = env.step_env(key, state, jnp.int32(action), task)
        shown, plain, *_ = env.game.step_env(key, plain, jnp.int32(1 - action), task)


def test_tasks_differ_in_what_is_projected():
    both, seen = ProjectedCartPole(), ProjectedCartPole(projects="observations")
    keys = jax.random.split(jax.random.key(0), 64)
    swapped = jax.vmap(lambda key: both.sample_task(key).swapped)(keys)
    assert 16 < int(swapped.sum()) < 48
    assert not jax.vmap(lambda key: seen.sample_task(key).swapped)(keys).any()
    with pytest.raises(InputError, match="seen: got 3, allowed: "):
        ProjectedCartPole(seen=3)
