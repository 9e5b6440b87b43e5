"""NeuralTS: Thompson sampling of a network's predictions (Zhang, Zhou, Li, Gu 2021, Neural Thompson Sampling)."""

from typing import ClassVar

import jax.numpy as jnp

from icrl.agents._grids import each
from icrl.agents._neural_agent import NeuralState
from icrl.agents._neural_gram import NeuralGram
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import normal
from icrl.core.types import Array, Grid


@agents.register("neural-ts", paper="Zhang et al. 2021")
@struct.dataclass
class NeuralTS(NeuralGram):
    """argmin of draws N(y_a, nu^2 lam g_a^T (diag Z)^-1 g_a), y the predicted losses, Z as in NeuralGram."""

    nu: float = setting(0.1, low=0.0, help="scale of the posterior's standard deviation, loss units")

    grid: ClassVar[Grid] = (*each("learning_rate", 0.2, 0.5), {"nu": 0.01}, {"learning_rate": 0.2, "nu": 0.01})

    def act(self, key: Array, state: NeuralState, obs: Array) -> Array:
        spread = self.nu * jnp.sqrt(self.lam) * self.widths(state, obs)
        drawn = self.losses(state, obs) + spread * normal(key, (self.num_arms,))
        return jnp.argmin(drawn).astype(jnp.int32)
