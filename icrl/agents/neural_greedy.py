"""Greedy on the predictions of a network: the baseline that every neural explorer has to beat (Deb et al. 2024)."""

from typing import ClassVar

from icrl.agents._grids import each
from icrl.agents._neural_agent import NeuralAgent, NeuralState
from icrl.core import struct
from icrl.core.registry import agents
from icrl.core.types import Array, Grid


@agents.register("neural-greedy", paper="Deb et al. 2024")
@struct.dataclass
class NeuralGreedy(NeuralAgent):
    """argmin of the predicted losses; it explores only because first predictions are low."""

    grid: ClassVar[Grid] = each("learning_rate", 0.05, 0.2, 0.5, 1.0)

    def act(self, key: Array, state: NeuralState, obs: Array) -> Array:
        return self.act_greedy(key, state, obs)
