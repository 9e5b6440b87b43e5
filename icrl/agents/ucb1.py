"""UCB1 (Auer, Cesa-Bianchi, Fischer 2002, Finite-time Analysis of the Multiarmed Bandit Problem, figure 1)."""

from typing import ClassVar

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent, argmax_untried_first
from icrl.agents._grids import each
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Grid


@agents.register("ucb1", paper="Auer et al. 2002")
@struct.dataclass
class UCB1(ArmStatsAgent):
    """argmax m_a + scale * sqrt(2 ln t / n_a) with t pulls so far in all; every arm once first, arm 0 first on ties.

    ``scale`` = 1 is the published rule, made for rewards in [0, 1]; its logarithm costs four to five times the regret
    of ``ucb`` at a few hundred pulls.
    """

    scale: float = setting(1.0, low=0.0, help="scale of the bonus, no unit")

    grid: ClassVar[Grid] = each("scale", 0.1, 0.25, 0.5, 2.0)

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del key, obs
        time = jnp.maximum(jnp.sum(state.count), 1)
        bonus = self.scale * jnp.sqrt(2.0 * jnp.log(time) / jnp.maximum(state.count, 1))
        return argmax_untried_first(state.mean + bonus, state.count)
