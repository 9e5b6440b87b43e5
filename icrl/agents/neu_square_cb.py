"""NeuSquareCB: inverse gap weighting on a network with square loss (Deb et al. 2024; Foster, Rakhlin 2020)."""

from typing import ClassVar

import jax.numpy as jnp

from icrl.agents._grids import each
from icrl.agents._neural_agent import NeuralAgent, NeuralState, inverse_gap_sample
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Grid


@agents.register("neu-square-cb", paper="Deb et al. 2024")
@struct.dataclass
class NeuSquareCB(NeuralAgent):
    """p_a = 1 / (K + gamma (y_a - y_b)) for a != b = argmin y, the rest to b; y are the predicted losses.

    The theory has gamma ~ sqrt(KT / (regression regret + ln 1/delta)); here it is a setting, as in the experiments.
    """

    gamma: float = setting(1000.0, low=0.0, open_low=True, help="inverse exploration: large is greedy")

    grid: ClassVar[Grid] = (*each("learning_rate", 0.2, 0.5), {"gamma": 1e4}, {"learning_rate": 0.2, "gamma": 1e4})

    def act(self, key: Array, state: NeuralState, obs: Array) -> Array:
        losses = self.losses(state, obs)
        return inverse_gap_sample(key, self.weighting(losses), losses)

    def weighting(self, losses: Array) -> Array:
        """Probabilities [K] of the arms that are not the best (that of the best is not to be used)."""
        return 1.0 / (self.num_arms + self.gamma * (losses - jnp.min(losses)))
