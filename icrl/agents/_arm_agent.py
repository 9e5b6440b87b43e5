"""What agents that treat arms independently share: counts and reward sums per arm."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import required
from icrl.core.threefry import below, bits
from icrl.core.types import Agent, Array, Environment, Transition

MAX_ARMS, MAX_DIM = 65536, 2**24


class ArmStats(NamedTuple):
    """Sufficient statistics per arm."""

    count: Array  # type: ignore[assignment]  # [K] int32, pulls n_a (hides tuple.count, which nobody needs here)
    total: Array  # [K] float32, sum of rewards

    @property
    def mean(self) -> Array:
        """m_a, [K] float32; 0 for an arm never pulled."""
        return self.total / jnp.maximum(self.count, 1)


@struct.dataclass
class ArmAgent(Agent):
    """Base of agents that ignore the observation; subclasses say what they remember."""

    num_arms: int = required(low=1, high=MAX_ARMS, static=True, help="K, arms")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return cls(**{"num_arms": env.num_actions, **settings})

    def no_pulls(self) -> ArmStats:
        """Statistics of arms never pulled."""
        return ArmStats(jnp.zeros(self.num_arms, jnp.int32), jnp.zeros(self.num_arms, jnp.float32))

    def count_pull(self, stats: ArmStats, transition: Transition) -> ArmStats:
        """The statistics after one more pull."""
        pulled = jnp.arange(self.num_arms) == transition.action
        return ArmStats(stats.count + pulled, stats.total + jnp.where(pulled, transition.reward, 0.0))


@struct.dataclass
class ArmStatsAgent(ArmAgent):
    """Base of those whose state is ``ArmStats``."""

    def init(self, key: Array) -> ArmStats:
        del key
        return self.no_pulls()

    def update(self, state: ArmStats, transition: Transition) -> ArmStats:
        return self.count_pull(state, transition)


def argmax_untried_first(index: Array, count: Array) -> Array:
    """The largest ``index`` [K], but any arm with ``count`` 0 before it, lowest number first; ties go to the first."""
    return jnp.argmax(jnp.where(count == 0, jnp.inf, index)).astype(jnp.int32)


def argmax_random_ties(key: Array, index: Array) -> Array:
    """The largest ``index`` [K], ties broken uniformly; ``key`` is consumed."""
    return argmax_any(bits(key), index)


def argmax_any(word: Array, index: Array) -> Array:
    """The largest ``index`` [K], one of those that tie by a random ``word`` [] uint32."""
    is_best = index == jnp.max(index)
    chosen = below(word, jnp.sum(is_best))
    return jnp.argmax(is_best & (jnp.cumsum(is_best) == chosen + 1)).astype(jnp.int32)
