"""Follow the leader: the empirical mean and nothing else (the "Emp" of Lee et al. 2023, A.2)."""

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent, argmax_untried_first
from icrl.core import struct
from icrl.core.registry import agents
from icrl.core.types import Array


@agents.register("empirical-mean", paper="Lee et al. 2023")
@struct.dataclass
class EmpiricalMean(ArmStatsAgent):
    """argmax m_a; online every arm once first, offline (``act_greedy``) only among the arms that were pulled.

    Its regret grows linearly and has a heavy tail: a task whose best arm started badly is lost for good.
    """

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del key, obs
        return argmax_untried_first(state.mean, state.count)

    def act_greedy(self, key: Array, state: ArmStats, obs: Array) -> Array:
        """The best arm seen; arm 0 when nothing was seen. The authors' code counts an unseen arm as 0 instead."""
        del key, obs
        return jnp.argmax(jnp.where(state.count > 0, state.mean, -jnp.inf)).astype(jnp.int32)
