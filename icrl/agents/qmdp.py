"""QMDP: act as if the state would be seen from the next step on (Littman, Cassandra and Kaelbling 1995)."""

import jax.numpy as jnp

from icrl.agents._belief_agent import BeliefState, StateValueAgent
from icrl.core import struct
from icrl.core.registry import agents
from icrl.core.types import Array


@agents.register("qmdp", paper="Littman et al. 1995")
@struct.dataclass
class QMDP(StateValueAgent):
    """argmax_a sum_s b(s) Q*_h(s, a), the first of several, where Q*_h is that of one who sees the state at step h.

    It never acts to learn: in ``Tiger-v0`` it never prefers listening to a better-informed guess for what it tells, but
    only for its small price.
    """

    def act(self, key: Array, state: BeliefState, obs: Array) -> Array:
        del key
        belief = self.belief(state, obs)
        return jnp.argmax(jnp.sum(belief[:, None] * jnp.asarray(self.q)[state.step], axis=0)).astype(jnp.int32)
