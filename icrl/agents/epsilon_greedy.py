"""Epsilon-greedy with a constant rate (Sutton, Barto 2018, Reinforcement Learning, section 2.2)."""

from typing import ClassVar

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent, argmax_random_ties
from icrl.agents._grids import each
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import randint, split, uniform
from icrl.core.types import Array, Grid


@agents.register("epsilon-greedy", paper="Sutton, Barto 2018")
@struct.dataclass
class EpsilonGreedy(ArmStatsAgent):
    """With probability ``epsilon`` any of the K arms, else argmax m_a with ties broken uniformly.

    Untried arms count as best, so that each arm is soon pulled once, in random order.
    """

    epsilon: float = setting(0.1, low=0.0, high=1.0, help="probability of a uniformly random arm")

    grid: ClassVar[Grid] = each("epsilon", 0.01, 0.02, 0.05, 0.2)

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        key_coin, key_any, key_ties = split(key, 3)
        explores = uniform(key_coin) < self.epsilon
        anything = randint(key_any, (), 0, self.num_arms)
        return jnp.where(explores, anything, self.act_greedy(key_ties, state, obs))

    def act_greedy(self, key: Array, state: ArmStats, obs: Array) -> Array:
        """The same with epsilon 0."""
        del obs
        return argmax_random_ties(key, jnp.where(state.count == 0, jnp.inf, state.mean))
