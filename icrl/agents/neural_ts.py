"""NeuralTS: Thompson sampling of a network's predictions (Zhang, Zhou, Li, Gu 2021, Neural Thompson Sampling)."""

import jax
import jax.numpy as jnp

from icrl.agents._neural_agent import NeuralState
from icrl.agents._neural_gram import NeuralGram
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array


@agents.register("neural-ts", paper="Zhang et al. 2021")
@struct.dataclass
class NeuralTS(NeuralGram):
    """argmin of draws N(y_a, nu^2 lam g_a^T (diag Z)^-1 g_a), y the predicted losses, Z as in NeuralGram."""

    nu: float = setting(0.1, low=0.0, help="scale of the posterior's standard deviation, loss units")

    def act(self, key: Array, state: NeuralState, obs: Array) -> Array:
        spread = self.nu * jnp.sqrt(self.lam) * self.widths(state, obs)
        drawn = self.losses(state, obs) + spread * jax.random.normal(key, (self.num_arms,), jnp.float32)
        return jnp.argmin(drawn).astype(jnp.int32)
