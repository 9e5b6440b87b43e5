"""Umbrella Chain: whether to take an umbrella now shows at the end of the day (Osband et al. 2020)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import bits, split
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._one_task import OneTask


@struct.dataclass
class UmbrellaChainState:
    """The day of this episode."""

    time: Array  # [] int32, actions done
    needed: Array  # [] bool, whether it will rain
    taken: Array  # [] bool, whether there is an umbrella


@environments.register("UmbrellaChain-v0", paper="Osband et al. 2020")
@dataclasses.dataclass(frozen=True)
class UmbrellaChain(OneTask):
    """Observation [3 + M]: whether it will rain, whether an umbrella is there, 1 - t / L, and M random bits.

    The first action takes an umbrella (1) or none (0); before it that is random. The last of L actions earns 1 if the
    umbrella is there when it rains, or neither, and -1 otherwise; all others earn -1 or 1 by chance. bsuite's
    umbrella_length has M = 20 and L = 1 to 100, its umbrella_distract L = 20 and M = 1 to 100.

    Departure from bsuite: the end counts as a time limit, not as a termination.
    """

    length: int = setting(20, low=1, high=2**20, help="L, steps in an episode")
    num_distractors: int = setting(20, low=0, high=4096, help="M, bits that mean nothing")

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(type(self).__name__, 2, (3 + self.num_distractors,), 0.0, 1.0, self.length)

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, UmbrellaChainState]:
        del params
        key_day, key_bits = split(key)
        needed, taken = bits(key_day, (2,)) >> 31 == 1
        state = UmbrellaChainState(jnp.int32(0), needed, taken)
        return self._observe(key_bits, state), state

    def step_env(
        self, key: Array, state: UmbrellaChainState, action: Array, params: TaskParams
    ) -> tuple[Array, UmbrellaChainState, Array, Array, dict[str, Array]]:
        del params
        key_reward, key_bits = split(key)
        taken = jnp.where(state.time == 0, action == 1, state.taken)
        after = UmbrellaChainState(state.time + 1, state.needed, taken)
        pays = jnp.where(after.time == self.length, taken == state.needed, bits(key_reward) >> 31 == 1)
        reward = jnp.where(pays, jnp.float32(1.0), -1.0)
        return self._observe(key_bits, after), after, reward, jnp.bool_(False), {}

    def _observe(self, key: Array, state: UmbrellaChainState) -> Array:
        clock = (self.length - state.time) / jnp.float32(self.length)
        means = jnp.stack([state.needed.astype(jnp.float32), state.taken.astype(jnp.float32), clock])
        return jnp.concatenate([means, (bits(key, (self.num_distractors,)) >> 31).astype(jnp.float32)])

    def optimal_action(self, params: TaskParams, state: UmbrellaChainState) -> Array:
        """An umbrella if it will rain; after the first step nothing matters."""
        del params
        return state.needed.astype(jnp.int32)

    def regret(self, params: TaskParams, state: UmbrellaChainState, action: Array) -> Array:
        """2 for a wrong first action."""
        del params
        return jnp.where((state.time == 0) & (action != state.needed), jnp.float32(2.0), 0.0)

    def optimal_return(self, params: TaskParams) -> Array:
        """The last reward; the others are nothing on average."""
        del params
        return jnp.float32(1.0)
