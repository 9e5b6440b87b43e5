"""MOSS: minimax optimal strategy in the stochastic case (Audibert, Bubeck 2009, Minimax Policies for Bandits)."""

from typing import Any, Self

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent, argmax_untried_first
from icrl.agents._grids import multiples
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Environment, Grid


@agents.register("moss", paper="Audibert, Bubeck 2009")
@struct.dataclass
class MOSS(ArmStatsAgent):
    """argmax m_a + sqrt(max(0, ln(T / (K n_a))) / n_a), every arm once first; for rewards in [0, 1].

    An arm gets no bonus once it has had its share T / K of the pulls. T is the length of an episode unless told
    otherwise; who lives longer explores no more then.
    """

    horizon: float = setting(500.0, low=0.0, open_low=True, help="T, pulls in all")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return super().for_env(env, **{"horizon": float(env.spec.max_steps_in_episode), **settings})

    @classmethod
    def candidates(cls, env: Environment) -> Grid:
        return multiples(cls, env, ("horizon",), (0.0625, 0.25, 4.0, 16.0))

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del key, obs
        n = jnp.maximum(state.count, 1)
        bonus = jnp.sqrt(jnp.maximum(jnp.log(self.horizon / (self.num_arms * n)), 0.0) / n)
        return argmax_untried_first(state.mean + bonus, state.count)
