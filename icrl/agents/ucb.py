"""The UCB rule of the in-context papers: bonus 1/sqrt(n), no logarithm (Lee et al. 2023, A.2; Lin et al. 2023, 5)."""

from typing import ClassVar

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent, argmax_untried_first
from icrl.agents._grids import each
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Grid


@agents.register("ucb", paper="Lee et al. 2023")
@struct.dataclass
class UCB(ArmStatsAgent):
    """argmax m_a + c / sqrt(n_a), every arm once first.

    This is what "UCB" means in both in-context papers. It is not UCB1: without the growing logarithm it has no
    worst-case guarantee, and at a few hundred pulls it loses four to five times less, so a transformer that beats
    UCB1 has shown little. Compare against this one.
    """

    c: float = setting(1.0, low=0.0, help="scale of the bonus, reward units")

    grid: ClassVar[Grid] = each("c", 0.1, 0.25, 0.5, 2.0)

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del key, obs
        bonus = self.c / jnp.sqrt(jnp.maximum(state.count, 1))
        return argmax_untried_first(state.mean + bonus, state.count)
