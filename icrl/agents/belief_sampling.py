"""Posterior sampling of hidden states: what a perfect DPT would do whose labels come from one who sees the state."""

from typing import Any, Self

import jax.numpy as jnp

from icrl.agents._belief_agent import BeliefAgent, BeliefState, known, tables_of
from icrl.core import struct
from icrl.core.fields import check_array
from icrl.core.registry import agents
from icrl.core.threefry import uniform
from icrl.core.types import Array, Environment
from icrl.planning.belief import drawn
from icrl.planning.pomdp import mdp_values


@agents.register("belief-sampling", paper="Thompson 1933; Lee et al. 2023, theorem 1")
@struct.dataclass
class BeliefSampling(BeliefAgent):
    """At each step draws (task, state) from the exact belief and plays what is optimal for one who sees that state.

    It is the exact posterior sampler of a POMDP: DPT with labels of the omniscient player learns its law (Lee et al.
    2023, theorem 1). It is not optimal, as it never acts to learn; the agent that is, is ``belief-optimal``.
    """

    q: Array = struct.field(kw_only=True)  # Q* [H, S, K] float32, of one who sees the state

    def __post_init__(self) -> None:
        super().__post_init__()
        check_array("q", self.q, (None, None, None))

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        q = mdp_values(tables_of(env), env.spec.max_steps_in_episode)
        return cls(**{**known(env), "q": q, **settings})

    def act(self, key: Array, state: BeliefState, obs: Array) -> Array:
        there = drawn(uniform(key), self.belief(state, obs))
        return jnp.argmax(jnp.asarray(self.q)[state.step, there]).astype(jnp.int32)
