"""What all bandit families share: one state, an episode of T pulls, a pseudo-regret from true means.

The reward noise of a step is drawn from the step's key alone and then applied to the arm's mean, so that agents which
pull different arms on the same key still meet the same noise (common random numbers).
"""

import abc
import dataclasses
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.scenes import Arms, Episode
from icrl.core.types import Array, Environment, EnvSpec, TaskParams

MAX_ARMS = 4096
MAX_HORIZON = 2**24

BanditTask = TypeVar("BanditTask", bound=TaskParams)


@struct.dataclass
class BanditState:
    """Pulls so far in this episode."""

    time: Array  # [] int32


@dataclasses.dataclass(frozen=True)
class Bandit(Environment[BanditTask]):
    """A stationary bandit with K arms and episodes of ``horizon`` pulls; the observation is the constant 1.

    The end of an episode is a time limit (``truncated``), never a termination.
    """

    keys_in_place = True
    exact_sampler: ClassVar[str] = ""  # registered agent that samples from the exact posterior of this family

    num_arms: int = setting(5, low=1, high=MAX_ARMS, help="K, arms")
    horizon: int = setting(500, low=1, high=MAX_HORIZON, help="T, pulls in an episode")

    @abc.abstractmethod
    def arm_means(self, params: BanditTask) -> Array:
        """True expected reward of each arm, [K] float32."""

    @abc.abstractmethod
    def draw_reward(self, key: Array, mean: Array, params: BanditTask) -> Array:
        """A reward with expectation ``mean`` [] from the noise of ``key``, [] float32."""

    def observe(self, params: BanditTask) -> Array:
        """What is seen before each pull, [*O] float32."""
        del params
        return jnp.ones((1,), jnp.float32)

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            type(self).__name__, self.num_arms, (1,), 0.0, 1.0, self.horizon, is_stationary_bandit=True,
            exact_sampler=self.exact_sampler,
        )  # fmt: skip

    def reset_env(self, key: Array, params: BanditTask) -> tuple[Array, BanditState]:
        del key
        return self.observe(params), BanditState(time=jnp.int32(0))

    def step_env(
        self, key: Array, state: BanditState, action: Array, params: BanditTask
    ) -> tuple[Array, BanditState, Array, Array, dict[str, Array]]:
        mean = _select(self.arm_means(params), action)
        reward = self.draw_reward(key, mean, params)
        return self.observe(params), BanditState(time=state.time + 1), reward, jnp.bool_(False), {}

    def is_truncated(self, state: BanditState, params: BanditTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: BanditTask, state: Any = None) -> Array:
        """The arm with the largest true mean (the first on ties); the state does not matter."""
        del state
        return jnp.argmax(self.arm_means(params)).astype(jnp.int32)

    def regret(self, params: BanditTask, state: Any, action: Array) -> Array:
        """Pseudo-regret mu* - mu_a of one pull."""
        del state
        means = self.arm_means(params)
        return jnp.max(means) - _select(means, action)

    def optimal_return(self, params: BanditTask) -> Array:
        return jnp.max(self.arm_means(params)) * params.max_steps_in_episode

    def scene(self, params: BanditTask, state: BanditState, episode: Episode) -> Arms:
        del state
        return Arms(np.asarray(self.arm_means(params)), episode.counts, episode.sums)


def _select(values: Array, index: Array) -> Array:
    """``values[index]`` as a masked sum: under ``vmap`` on CPU it is several times faster than a gather."""
    return jnp.sum(jnp.where(jnp.arange(values.shape[0]) == index, values, 0.0))
