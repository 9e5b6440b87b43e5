"""QMDP: act as if the state would be seen from the next step on (Littman, Cassandra and Kaelbling 1995)."""

from typing import Any, Self

import jax.numpy as jnp

from icrl.agents._belief_agent import BeliefAgent, BeliefState, known, tables_of
from icrl.core import struct
from icrl.core.fields import check_array
from icrl.core.registry import agents
from icrl.core.types import Array, Environment
from icrl.planning.pomdp import mdp_values


@agents.register("qmdp", paper="Littman et al. 1995")
@struct.dataclass
class QMDP(BeliefAgent):
    """argmax_a sum_s b(s) Q*_h(s, a), the first of several, where Q*_h is that of one who sees the state at step h.

    It never acts to learn: in ``Tiger-v0`` it never prefers listening to a better-informed guess for what it tells, but
    only for its small price.
    """

    q: Array = struct.field(kw_only=True)  # Q* [H, S, K] float32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_array("q", self.q, (None, None, None))

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        q = mdp_values(tables_of(env), env.spec.max_steps_in_episode)
        return cls(**{**known(env), "q": q, **settings})

    def act(self, key: Array, state: BeliefState, obs: Array) -> Array:
        del key
        belief = self.belief(state, obs)
        return jnp.argmax(jnp.sum(belief[:, None] * jnp.asarray(self.q)[state.step], axis=0)).astype(jnp.int32)
