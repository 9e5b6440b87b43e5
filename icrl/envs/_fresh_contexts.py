"""What contextual bandits with a fresh context at every pull share: the state, a 0/1 reward, a pseudo-regret.

The context and the reward noise of a step are drawn from the step's key alone, so that agents which pull different
arms on the same key still meet the same contexts and the same noise (common random numbers).
"""

import abc
import dataclasses
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.scenes import Arms, Episode
from icrl.core.threefry import split, uniform
from icrl.core.types import Array, Environment, TaskParams
from icrl.envs._bandit import MAX_HORIZON

ContextTask = TypeVar("ContextTask", bound=TaskParams)


@struct.dataclass
class ContextState:
    """Pulls so far in this episode, and what the next one is about."""

    time: Array  # [] int32
    context: Array  # what ``draw_context`` drew, before ``observe`` shows it


@dataclasses.dataclass(frozen=True)
class FreshContexts(Environment[ContextTask]):
    """K arms whose rewards, 1 or 0, have means that depend on a context drawn anew, independently, at every pull.

    The observation is the context, a vector [d] of length 1 (or 0). An episode has ``horizon`` pulls and ends by time
    limit (``truncated``).
    """

    horizon: int = setting(500, low=1, high=MAX_HORIZON, help="T, pulls in an episode")

    @abc.abstractmethod
    def draw_context(self, key: Array, params: ContextTask) -> Array:
        """A context from the task's distribution, in whatever form the family keeps it."""

    @abc.abstractmethod
    def observe(self, params: ContextTask, context: Array) -> Array:
        """What is seen of a context, [d] float32."""

    @abc.abstractmethod
    def arm_means(self, params: ContextTask, context: Array) -> Array:
        """Probability of the reward 1 for each arm in this context, [K] float32 in [0, 1]."""

    def draw_reward(self, key: Array, mean: Array) -> Array:
        """1 with probability ``mean`` [], else 0, from the noise of ``key``, [] float32."""
        return (uniform(key) < mean).astype(jnp.float32)

    def reset_env(self, key: Array, params: ContextTask) -> tuple[Array, ContextState]:
        context = self.draw_context(key, params)
        return self.observe(params, context), ContextState(time=jnp.int32(0), context=context)

    def step_env(
        self, key: Array, state: ContextState, action: Array, params: ContextTask
    ) -> tuple[Array, ContextState, Array, Array, dict[str, Array]]:
        key_reward, key_context = split(key)
        reward = self.draw_reward(key_reward, self.arm_means(params, state.context)[action])
        context = self.draw_context(key_context, params)
        after = ContextState(time=state.time + 1, context=context)
        return self.observe(params, context), after, reward, jnp.bool_(False), {}

    def is_truncated(self, state: ContextState, params: ContextTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: ContextTask, state: ContextState) -> Array:
        """The arm with the largest mean in this context, the first on ties."""
        return jnp.argmax(self.arm_means(params, state.context)).astype(jnp.int32)

    def regret(self, params: ContextTask, state: ContextState, action: Array) -> Array:
        """Pseudo-regret max_b mu_b(x) - mu_a(x) of one pull."""
        means = self.arm_means(params, state.context)
        return jnp.max(means) - means[action]

    def scene(self, params: ContextTask, state: ContextState, episode: Episode) -> Arms:
        return Arms(np.asarray(self.arm_means(params, state.context)), episode.counts, episode.sums)
