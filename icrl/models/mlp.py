"""A network without memory: what can be had from the observation before it alone."""

import dataclasses

from flax import nnx

from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.linear import linear
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig


@dataclasses.dataclass(frozen=True)
class MLPConfig(StackConfig):
    """Shape of the model."""


class NoMemory(Mixer):
    """A linear map of each step alone."""

    def __init__(self, config: MLPConfig, rngs: nnx.Rngs):
        self.map = linear(config.matmuls, config.width, config.width, rngs)

    def initial_carry(self) -> tuple[()]:
        return ()

    def __call__(self, u: Array, start: Array, carry: tuple[()]) -> tuple[Array, tuple[()]]:
        del start
        return self.map(u), carry


@models.register("mlp", paper="Morad et al. 2023 (the baseline without memory)")
class MLP(ResidualStack):
    """Residual blocks that see one step; the yardstick of every task that asks for memory."""

    Config = MLPConfig
    Mixer = NoMemory
