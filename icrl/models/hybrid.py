"""Recurrent layers with attention every so many (Jamba; Lieber et al. 2024): most of the memory in a state of one size.

The recurrent mixer is that of any registered model, in its default shape. Attention has no positions: the recurrent
layers before it tell the order.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.model_types import HIDDEN
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.cached_attention import Memory
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig
from icrl.models.layers.self_attention import SelfAttention, placed


@dataclasses.dataclass(frozen=True)
class HybridConfig(StackConfig):
    """Shape of the model."""

    recurrent: str = setting("mamba2", help="registered model whose mixer the other layers have")
    attention_every: int = setting(2, low=1, high=256, help="the last of so many layers has attention")
    num_heads: int = setting(2, low=1, high="width", help="H, heads of attention; divides width")
    attention_window: int = setting(0, low=0, high=2**24, help="latest positions that attention sees; 0: all")

    def __post_init__(self) -> None:
        super().__post_init__()
        recurrent = hasattr(models[self.recurrent], "Mixer")
        require(recurrent, "recurrent", self.recurrent, "a recurrent model, such as mamba2, s5 or gru")
        self.of_mixer()
        require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of width {self.width}")

    def is_endless(self, capacity: int) -> bool:
        return 0 < self.attention_window < capacity

    def of_mixer(self) -> StackConfig:
        """The settings of the recurrent mixer."""
        return models[self.recurrent].Config(width=self.width, num_layers=self.num_layers, matmuls=self.matmuls)


class AttentionState(NamedTuple):
    """What one layer of attention remembers."""

    memory: Memory | None  # None: nothing, and nothing is to be kept
    position: Array  # [] int32, slots filled so far
    first: Array  # [] int32, slot of the latest start


class AttentionMixer(Mixer):
    """Self-attention as one mixer among others."""

    def __init__(self, config: HybridConfig, capacity: int, rngs: nnx.Rngs):
        self.capacity = capacity
        window, matmuls = config.attention_window, config.matmuls
        self.attention = SelfAttention(config.width, config.num_heads, rngs, window=window, matmuls=matmuls)

    def initial_carry(self) -> AttentionState:
        return AttentionState(self.attention.empty_memory(self.capacity + HIDDEN), jnp.int32(0), jnp.int32(0))

    def empty_past(self) -> AttentionState:
        return AttentionState(None, jnp.int32(0), jnp.int32(0))

    def __call__(self, u: Array, start: Array, carry: AttentionState) -> tuple[Array, AttentionState]:
        place = placed(u.shape[0], start, carry.position, carry.first)
        assert place.first is not None
        after = carry.position + u.shape[0], place.first[-1]
        if carry.memory is None and isinstance(start, np.ndarray) and not start.any():
            place = place._replace(first=None)  # the whole past is seen, for which there are faster kernels
        y, memory = self.attention(u, place, carry.memory)
        return y, AttentionState(memory, *after)


@models.register("hybrid", paper="Lieber et al. 2024")
class Hybrid(ResidualStack):
    """Any recurrent mixer, with attention in every n-th layer; ``capacity`` is the room in its caches."""

    Config = HybridConfig

    def new_mixer(self, config: HybridConfig, number: int, capacity: int, rngs: nnx.Rngs) -> Mixer:
        """Attention in the last of every ``attention_every`` layers."""
        if (number + 1) % config.attention_every == 0:
            return AttentionMixer(config, capacity, rngs)
        return models[config.recurrent].Mixer(config.of_mixer(), rngs)
