"""KL-UCB (Garivier, Cappe 2011, The KL-UCB Algorithm for Bounded Stochastic Bandits and Beyond, algorithm 1)."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent, argmax_untried_first
from icrl.agents._grids import each
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Grid

BISECTIONS = 22  # halvings of an interval no longer than 1: to float32's spacing


@agents.register("kl-ucb", paper="Garivier, Cappe 2011")
@struct.dataclass
class KLUCB(ArmStatsAgent):
    """argmax of the largest q with n_a kl(m_a, q) <= ln t + c ln ln t; t pulls so far in all, every arm once first.

    For rewards in [0, 1], kl being Bernoulli's; means outside are clipped. The proof wants c = 3, the authors advise
    c = 0, the default. Asymptotically optimal for Bernoulli arms.
    """

    c: float = setting(0.0, low=0.0, help="weight of ln ln t")

    grid: ClassVar[Grid] = each("c", 0.5, 1.0, 2.0, 3.0)

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del key, obs
        log_time = jnp.log(jnp.maximum(jnp.sum(state.count), 1))
        threshold = log_time + self.c * jnp.log(jnp.maximum(log_time, 1.0))  # ln ln t is negative before t = e
        return argmax_untried_first(kl_upper(state.mean, threshold / jnp.maximum(state.count, 1)), state.count)


def kl_upper(mean: Array, budget: Array) -> Array:
    """The largest q in [mean, 1] with kl(mean, q) <= budget, [K] float32, for ``mean`` clipped to [0, 1]."""
    mean = jnp.clip(mean, 0.0, 1.0)
    entropy = jax.scipy.special.xlogy(mean, mean) + jax.scipy.special.xlog1py(1.0 - mean, -mean)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        q = (low + high) / 2
        kl = entropy - jax.scipy.special.xlogy(mean, q) - jax.scipy.special.xlog1py(1.0 - mean, -q)
        inside = kl <= budget
        return jnp.where(inside, q, low), jnp.where(inside, high, q)

    return jax.lax.fori_loop(0, BISECTIONS, halve, (mean, jnp.ones_like(mean)))[0]
