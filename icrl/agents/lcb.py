"""Pessimism for choosing from given data: a lower confidence bound (Lee et al. 2023, A.2)."""

from typing import ClassVar

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent
from icrl.agents._grids import each
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Grid


@agents.register("lcb", paper="Lee et al. 2023")
@struct.dataclass
class LCB(ArmStatsAgent):
    """argmax m_a - c / sqrt(n_a), first arm on ties; an arm never pulled has the index -c, as in the authors' code.

    c is 1 in the paper and 0.8 in its code. A rule for offline data: left to act it hardly explores.
    """

    c: float = setting(1.0, low=0.0, help="scale of the penalty, reward units")

    grid: ClassVar[Grid] = each("c", 0.0, 0.1, 0.3, 2.0)

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del key, obs
        penalty = self.c / jnp.sqrt(jnp.maximum(state.count, 1))
        return jnp.argmax(state.mean - penalty).astype(jnp.int32)
