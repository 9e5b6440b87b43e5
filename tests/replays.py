"""Episodes of ours to be replayed in somebody else's environment, which is given what ours has drawn."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.seeding import key_for


class Played(NamedTuple):
    """Episodes of ours, leaves [B, T, ...]; what comes after the end of an episode means nothing."""

    keys: jax.Array  # [B, T + 1], of the starts and of the steps
    first_obs: np.ndarray  # [B, O]
    state: Any  # before each step
    action: np.ndarray
    obs: np.ndarray  # after each step
    reward: np.ndarray
    over: np.ndarray
    regret: np.ndarray

    def steps(self, number):
        """Steps of an episode."""
        assert self.over[number].any()
        return int(self.over[number].argmax()) + 1

    def sums(self, curve):
        """Sums of a curve [B, T] over the episodes, [B]."""
        return np.sum(curve, axis=1, where=np.cumsum(self.over, 1) - self.over == 0, dtype=np.float64)


def episodes_of(env, num_episodes, share, purpose, task=None):
    """Episodes of one task whose actions are uniform in a share of the steps, else optimal.

    The share is a number, or one for each episode; the task is the default one if none is given.
    """
    task = env.default_params if task is None else task
    rng, shape = np.random.default_rng(0), (num_episodes, env.spec.max_steps_in_episode)
    keys = jax.random.split(key_for(0, purpose), (num_episodes, shape[1] + 1))
    is_any = rng.random(shape) < np.broadcast_to(share, num_episodes)[:, None]
    outcome = play(env, task, keys, is_any, rng.integers(env.num_actions, size=shape, dtype=np.int32))
    return Played(keys, *jax.tree.map(np.asarray, outcome))


@partial(jax.jit, static_argnums=0)
@partial(jax.vmap, in_axes=(None, None, 0, 0, 0))
def play(env, task, keys, is_any, anything):
    """An episode: its first observation, and for each of T steps the state before it, its action, and what it returns.

    The keys [T + 1] are those of the start and of the steps; step t takes the action ``anything[t]`` if ``is_any[t]``,
    else the optimal one.
    """
    obs, state = env.reset_env(keys[0], task)

    def step(state, given):
        key, is_any, anything = given
        action = jnp.where(is_any, anything, env.optimal_action(task, state))
        regret = env.regret(task, state, action)
        obs, after, reward, terminated, _ = env.step_env(key, state, action, task)
        over = terminated | env.is_truncated(after, task)
        return after, (state, action, obs, reward, over, regret)

    return obs, *jax.lax.scan(step, state, (keys[1:], is_any, anything))[1]


class Draws:
    """A NumPy generator that gives back what it was given, in order."""

    def __init__(self, *draws):
        self.draws = iter(draws)

    def __call__(self, *_args, **_kwargs):
        return next(self.draws)

    random = uniform = normal = choice = binomial = __call__

    def shuffle(self, cards):
        order = next(self.draws)
        assert np.array_equal(np.sort(order), np.arange(len(cards)))  # all of the deck, no card twice
        cards[:] = order
