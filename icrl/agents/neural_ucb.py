"""NeuralUCB: optimism about a network's predictions (Zhou, Li, Gu 2020, Neural Contextual Bandits with UCB)."""

from typing import ClassVar

import jax.numpy as jnp

from icrl.agents._grids import each
from icrl.agents._neural_agent import NeuralState
from icrl.agents._neural_gram import NeuralGram
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Grid


@agents.register("neural-ucb", paper="Zhou et al. 2020")
@struct.dataclass
class NeuralUCB(NeuralGram):
    """argmin y_a - beta sqrt(g_a^T (diag Z)^-1 g_a), y the predicted losses, Z as in NeuralGram."""

    beta: float = setting(0.1, low=0.0, help="scale of the bonus (the paper's gamma), loss units")

    grid: ClassVar[Grid] = (*each("learning_rate", 0.2, 0.5), {"beta": 0.01}, {"learning_rate": 0.2, "beta": 0.01})

    def act(self, key: Array, state: NeuralState, obs: Array) -> Array:
        del key
        index = self.losses(state, obs) - self.beta * self.widths(state, obs)
        return jnp.argmin(index).astype(jnp.int32)
