"""POPGym's bandit: Bernoulli arms that are drawn anew in every episode (Morad et al. 2023)."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import Arms, Episode
from icrl.core.threefry import uniform
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._levels import Levelled


@struct.dataclass
class MultiarmedBanditState:
    """The arms of this episode."""

    time: Array  # [] int32, actions done
    arms: Array  # [K] float32, chances of a hit


@environments.register("MultiarmedBandit-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class MultiarmedBandit(Levelled):
    """Observation [1]: whether the last action was a hit, 1 or 0; 0 at the start. Action: an arm.

    A hit earns 1 / T, a miss loses it. The chances of hits are uniform in [0, 1) and new in every episode, as in
    POPGym, so that what is to be learned is how to explore; ``BernoulliBandit-v0`` keeps them over a whole task.
    K = 10, 20 or 30 arms, T = 200, 400 or 600 steps, a time limit in POPGym too. A random player gets 0, the best arm
    (K - 1) / (K + 1).
    """

    num_arms: int | None = setting(None, low=1, high=4096, help="K, arms; none: as many as the level has")
    steps: int | None = setting(None, low=1, high=2**20, help="T, steps in an episode; none: as many as the level has")

    @property
    def num_steps(self) -> int:
        """T."""
        return self.by_level(self.steps, 200, 400, 600)

    @property
    def spec(self) -> EnvSpec:
        arms = self.by_level(self.num_arms, 10, 20, 30)
        return EnvSpec(type(self).__name__, arms, (1,), 0.0, 1.0, self.num_steps, (2,), observes_state=False)

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, MultiarmedBanditState]:
        del params
        return jnp.zeros(1, jnp.float32), MultiarmedBanditState(jnp.int32(0), uniform(key, (self.num_actions,)))

    def step_env(
        self, key: Array, state: MultiarmedBanditState, action: Array, params: TaskParams
    ) -> tuple[Array, MultiarmedBanditState, Array, Array, dict[str, Array]]:
        del params
        is_hit = uniform(key) < self._chance(state, action)
        reward = jnp.where(is_hit, jnp.float32(1.0), -1.0) / self.num_steps
        after = MultiarmedBanditState(state.time + 1, state.arms)
        return is_hit.astype(jnp.float32)[None], after, reward, jnp.bool_(False), {}

    def _chance(self, state: MultiarmedBanditState, action: Array) -> Array:
        return jnp.sum(jnp.where(jnp.arange(self.num_actions) == action, state.arms, 0.0))

    def scene(self, params: TaskParams, state: MultiarmedBanditState, episode: Episode) -> Arms:
        del params
        return Arms((2 * np.asarray(state.arms, float) - 1) / self.num_steps, episode.counts, episode.sums)

    def optimal_action(self, params: TaskParams, state: MultiarmedBanditState) -> Array:
        """The best arm."""
        del params
        return jnp.argmax(state.arms).astype(jnp.int32)

    def regret(self, params: TaskParams, state: MultiarmedBanditState, action: Array) -> Array:
        """The expected reward of the best arm less that of this one."""
        del params
        return 2 * (jnp.max(state.arms) - self._chance(state, action)) / self.num_steps

    def optimal_return(self, params: TaskParams) -> Array:
        """2 E[max p] - 1, where the largest of K uniform numbers is K / (K + 1) on average."""
        del params
        return jnp.float32((self.num_actions - 1) / (self.num_actions + 1))
