"""What bandits with changing arms share: the task is the whole path of the means, so that every optimum is exact.

The path does not depend on what is pulled, starts again with every episode, and the regret of a pull is taken against
the best arm of the moment (dynamic regret).
"""

import abc
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import require, require_int
from icrl.core.fields import setting
from icrl.core.scenes import Arms, Episode
from icrl.core.types import Array, Environment, EnvSpec, TaskParams
from icrl.envs._bandit import MAX_ARMS, BanditState

MAX_PATH = 2**20  # means in a path


@struct.dataclass
class DriftingTask(TaskParams):
    """The path of the means."""

    means: Array = struct.field(default_factory=lambda: jnp.zeros((200, 5), jnp.float32))  # [T, K] float32 in [0, 1]


@dataclasses.dataclass(frozen=True)
class Drifting(Environment[DriftingTask]):
    """K arms with means in [0, 1] that change; episodes of T = ``horizon`` pulls; the observation is the constant 1."""

    num_arms: int = setting(5, low=1, high=MAX_ARMS, help="K, arms")
    horizon: int = setting(200, low=1, high="max_horizon", help="T, pulls in an episode")

    @property
    def max_horizon(self) -> int:
        """The longest episode whose path of means is kept."""
        return MAX_PATH // self.num_arms

    @abc.abstractmethod
    def draw_reward(self, key: Array, mean: Array) -> Array:
        """A reward with expectation ``mean`` [] from the noise of ``key``, [] float32."""

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(type(self).__name__, self.num_arms, (1,), 0.0, 1.0, self.horizon)

    def reset_env(self, key: Array, params: DriftingTask) -> tuple[Array, BanditState]:
        del key, params
        return jnp.ones(1, jnp.float32), BanditState(time=jnp.int32(0))

    def step_env(
        self, key: Array, state: BanditState, action: Array, params: DriftingTask
    ) -> tuple[Array, BanditState, Array, Array, dict[str, Array]]:
        reward = self.draw_reward(key, params.means[state.time, action])
        return jnp.ones(1, jnp.float32), BanditState(time=state.time + 1), reward, jnp.bool_(False), {}

    def is_truncated(self, state: BanditState, params: DriftingTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: DriftingTask, state: Any) -> Array:
        """The arm with the largest mean at this moment, the first on ties."""
        return jnp.argmax(params.means[state.time]).astype(jnp.int32)

    def regret(self, params: DriftingTask, state: Any, action: Array) -> Array:
        """Pseudo-regret max_b mu_b(t) - mu_a(t) of one pull."""
        means = params.means[state.time]
        return jnp.max(means) - means[action]

    def optimal_return(self, params: DriftingTask) -> Array:
        return jnp.sum(jnp.max(params.means, axis=1))

    def scene(self, params: DriftingTask, state: BanditState, episode: Episode) -> Arms:
        return Arms(np.asarray(params.means[state.time]), episode.counts, episode.sums)

    def validate_task(self, params: DriftingTask) -> None:
        super().validate_task(params)
        means = np.asarray(params.means)
        require(bool(((means >= 0) & (means <= 1)).all()), "task.means", "numbers outside", "means in [0, 1]")
        require_int("task.max_steps_in_episode", params.max_steps_in_episode, 1, self.horizon)
