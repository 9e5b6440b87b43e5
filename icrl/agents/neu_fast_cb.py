"""NeuFastCB: first-order inverse gap weighting, KL loss (Deb et al. 2024; Foster, Krishnamurthy 2021)."""

from typing import ClassVar

import jax.numpy as jnp

from icrl.agents._grids import each
from icrl.agents._neural_agent import NeuralAgent, NeuralState, inverse_gap_sample
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Grid


@agents.register("neu-fast-cb", paper="Deb et al. 2024")
@struct.dataclass
class NeuFastCB(NeuralAgent):
    """p_a = y_b / (K y_b + gamma (y_a - y_b)) for a != b = argmin y, the rest to b; y in (0, 1) are predicted losses.

    It explores less where the best arm is thought to lose little. FastCB's theorem has gamma = max(sqrt(K L* / (3
    regression regret)), 10 K) with L* the loss of the best policy; here it is a setting, as in the experiments.
    """

    gamma: float = setting(1000.0, low=0.0, open_low=True, help="inverse exploration: large is greedy")

    grid: ClassVar[Grid] = (*each("learning_rate", 0.2, 0.5), {"gamma": 1e4}, {"learning_rate": 0.2, "gamma": 1e4})

    kl_loss: ClassVar[bool] = True

    def act(self, key: Array, state: NeuralState, obs: Array) -> Array:
        losses = self.losses(state, obs)
        return inverse_gap_sample(key, self.weighting(losses), losses)

    def weighting(self, losses: Array) -> Array:
        """Probabilities [K] of the arms that are not the best (that of the best is not to be used)."""
        best = jnp.maximum(jnp.min(losses), 1e-6)  # a sigmoid can round to 0
        return best / (self.num_arms * best + self.gamma * (losses - jnp.min(losses)))
