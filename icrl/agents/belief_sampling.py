"""Posterior sampling of hidden states: what a perfect DPT would do whose labels come from one who sees the state."""

import jax.numpy as jnp

from icrl.agents._belief_agent import BeliefState, StateValueAgent
from icrl.core import struct
from icrl.core.registry import agents
from icrl.core.threefry import uniform
from icrl.core.types import Array
from icrl.planning.belief import drawn


@agents.register("belief-sampling", paper="Thompson 1933; Lee et al. 2023, theorem 1")
@struct.dataclass
class BeliefSampling(StateValueAgent):
    """At each step draws (task, state) from the exact belief and plays what is optimal for one who sees that state.

    It is the exact posterior sampler of a POMDP: DPT with labels of the omniscient player learns its law (Lee et al.
    2023, theorem 1). It is not optimal, as it never acts to learn; the agent that is, is ``belief-optimal``.
    """

    def act(self, key: Array, state: BeliefState, obs: Array) -> Array:
        there = drawn(uniform(key), self.belief(state, obs))
        return jnp.argmax(jnp.asarray(self.q)[state.step, there]).astype(jnp.int32)
