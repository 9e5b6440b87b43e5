"""Uniformly random actions."""

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent
from icrl.core import struct
from icrl.core.registry import agents
from icrl.core.threefry import below, bits
from icrl.core.types import Array


@agents.register("uniform", paper="-")
@struct.dataclass
class Uniform(ArmStatsAgent):
    """Every action with probability 1/K."""

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del state, obs
        return below(bits(key), self.num_arms)
