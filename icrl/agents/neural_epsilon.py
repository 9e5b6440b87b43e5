"""Epsilon-greedy on the predictions of a network (NeuralEpsilon of Deb et al. 2024 and of Ban et al. 2022, EE-Net)."""

from typing import ClassVar

import jax.numpy as jnp

from icrl.agents._grids import each
from icrl.agents._neural_agent import NeuralAgent, NeuralState
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import randint, split, uniform
from icrl.core.types import Array, Grid


@agents.register("neural-epsilon", paper="Ban et al. 2022")
@struct.dataclass
class NeuralEpsilon(NeuralAgent):
    """With probability ``epsilon`` any of the K arms, else the least predicted loss."""

    epsilon: float = setting(0.01, low=0.0, high=1.0, help="probability of a uniformly random arm")

    grid: ClassVar[Grid] = (
        *each("learning_rate", 0.2, 0.5),
        {"epsilon": 0.02},
        {"learning_rate": 0.2, "epsilon": 0.005},
    )

    def act(self, key: Array, state: NeuralState, obs: Array) -> Array:
        key_coin, key_any, key_greedy = split(key, 3)
        explores = uniform(key_coin) < self.epsilon
        anything = randint(key_any, (), 0, self.num_arms)
        return jnp.where(explores, anything, self.act_greedy(key_greedy, state, obs))
