"""Uniformly random actions."""

from icrl import struct
from icrl.agents.arm_agent import ArmAgent, ArmStats
from icrl.registry import agents
from icrl.threefry import below, bits
from icrl.types import Array


@agents.register("uniform", paper="-")
@struct.dataclass
class Uniform(ArmAgent):
    """Every action with probability 1/K."""

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del state, obs
        return below(bits(key), self.num_arms)
