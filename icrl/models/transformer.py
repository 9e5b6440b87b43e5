"""GPT-style causal transformer (Radford et al. 2019, as used by DPT), and the variants that the papers used.

Published transformers as settings; width, layers, heads and MLP as the papers say:

- Lee et al. 2023 (DPT): the defaults, width 32, 4 layers, MLP 4x. Their text says 4 heads and no positions
  (``positions="none"``), their code runs one head and learned positions.
- Laskin et al. 2022 (AD): ``norm_first=False``, width 64, 4 layers, 4 heads, MLP 2048; they add dropout.
- Son et al. 2025, Chen et al. 2025 (DICP, LHF): ``norm="rms", positions="rotary", mlp="swiglu", final_norm=False``.
- Lin et al. 2023 (Transformers as Decision Makers): ``attention="relu", attention_bias=False, norm_first=False,
  mlp="relu"``, width 32, 8 layers; their text says 4 heads and MLP 4x, their code runs one head and 1x.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from icrl.core.errors import require, require_int
from icrl.core.fields import setting
from icrl.core.model_types import HIDDEN, SequenceModel
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers import attention
from icrl.models.layers.cached_attention import Memory
from icrl.models.layers.depth import through_layers
from icrl.models.layers.feed_forward import FeedForwardConfig, new_feed_forward
from icrl.models.layers.positions import sinusoidal
from icrl.models.layers.self_attention import Place, SelfAttention, placed

POSITIONS = ("learned", "sinusoidal", "rotary", "none")
NORMS = {"layer": nnx.LayerNorm, "rms": nnx.RMSNorm}


class BlockCarry(NamedTuple):
    """What one layer remembers."""

    attention: Memory | None  # None where the past is empty and its successor not wanted
    feed_forward: Any  # () for an MLP


class TransformerCarry(NamedTuple):
    """What is remembered of the past."""

    layers: tuple[BlockCarry, ...]
    position: Array  # [] int32, slots filled so far
    first: Array  # [] int32, slot of the latest start: nothing before it is visible


@dataclasses.dataclass(frozen=True)
class TransformerConfig(FeedForwardConfig):
    """Shape of the model. ``init_std`` is that of all matrices; into the residual stream over sqrt(2 layers)."""

    num_heads: int = setting(4, low=1, high="width", help="H, heads; divides width")
    positions: str = setting(
        "learned",
        choices=POSITIONS,
        help="learned and sinusoidal ones are absolute and added, rotary ones turn q and k",
    )
    attention: str = setting(
        "softmax", choices=attention.KINDS, help="weights: softmax, or relu over the number of visible positions"
    )
    attention_window: int = setting(
        0, low=0, high=2**24, help="latest positions that each one sees, itself included; 0: all"
    )
    attention_bias: bool = setting(True, help="biases of the projections into and out of attention")
    norm: str = setting("layer", choices=NORMS, help="LayerNorm or RMSNorm")
    norm_first: bool = setting(True, help="x + f(norm(x)), pre-LN; false: norm(x + f(x)), post-LN")
    final_norm: bool = setting(True, help="another norm behind the last layer if it has none there")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of width {self.width}")
        paired = {"rotary": self.width // self.num_heads, "sinusoidal": self.width}.get(self.positions, 2)
        require(paired % 2 == 0, "positions", self.positions, f"another where {paired} features make no pairs")

    def is_endless(self, capacity: int) -> bool:
        """With a window that is shorter than a context, and positions that count from no beginning."""
        return 0 < self.attention_window < capacity and self.positions in ("rotary", "none")


class Block(nnx.Module):
    """x + attention(norm x), then x + MLP(norm x); or norm(x + attention x), then norm(x + MLP x)."""

    def __init__(self, config: TransformerConfig, number: int, rngs: nnx.Rngs):
        init = nnx.initializers.normal(config.init_std)
        out_init = nnx.initializers.normal(config.init_std / (2 * config.num_layers) ** 0.5)
        self.norm_first = config.norm_first
        self.norm_attention = NORMS[config.norm](config.width, epsilon=1e-5, rngs=rngs)
        self.attention = SelfAttention(
            config.width,
            config.num_heads,
            rngs,
            kind=config.attention,
            window=config.attention_window,
            rotary=config.positions == "rotary",
            bias=config.attention_bias,
            matmuls=config.matmuls,
            init=init,
            out_init=out_init,
        )
        self.norm_mlp = NORMS[config.norm](config.width, epsilon=1e-5, rngs=rngs)
        self.feed_forward = new_feed_forward(config, number, rngs, init, out_init)

    def initial_carry(self, capacity: int | None) -> BlockCarry:
        """Memory of an empty past, with room for ``capacity`` positions or None."""
        memory = None if capacity is None else self.attention.empty_memory(capacity)
        return BlockCarry(memory, self.feed_forward.initial_carry())

    def __call__(self, x: Array, start: Array, place: Place, carry: BlockCarry) -> tuple[Array, BlockCarry]:
        """Map x [T, D] with start [T] bool to (x [T, D], carry)."""
        y, memory = self.attention(self.norm_attention(x) if self.norm_first else x, place, carry.attention)
        x = x + y if self.norm_first else self.norm_attention(x + y)
        y, fed = self.feed_forward(self.norm_mlp(x) if self.norm_first else x, start, carry.feed_forward)
        return x + y if self.norm_first else self.norm_mlp(x + y), BlockCarry(memory, fed)


@models.register("transformer", paper="Radford et al. 2019; Lee et al. 2023")
class Transformer(SequenceModel):
    """Causal transformer over x [T, D]; ``capacity`` is the number of positions it can hold since the carry was made.

    The caller keeps count: positions past the capacity are not refused inside jitted code. If it is
    endless, it holds any number of them.
    """

    Config = TransformerConfig

    def __init__(self, config: TransformerConfig, capacity: int, rngs: nnx.Rngs):
        self.capacity = require_int("capacity", capacity, 1, 2**24)
        self.width, self.positions, self.is_endless = config.width, config.positions, config.is_endless(capacity)
        self.blocks = nnx.List([Block(config, number, rngs) for number in range(config.num_layers)])
        self.ends_in_norm = config.norm_first and config.final_norm
        if self.ends_in_norm:
            self.norm = NORMS[config.norm](config.width, epsilon=1e-5, rngs=rngs)
        if config.positions == "learned":
            init = nnx.initializers.normal(config.init_std)
            self.position = nnx.Param(init(rngs.params(), (capacity, config.width), jnp.float32))

    def initial_carry(self) -> TransformerCarry:
        return TransformerCarry(self._empty(self.capacity + HIDDEN), jnp.int32(0), jnp.int32(0))

    def _empty(self, capacity: int | None) -> tuple[BlockCarry, ...]:
        return tuple(block.initial_carry(capacity) for block in self.blocks)

    def __call__(
        self, x: Array, start: Array | None = None, carry: TransformerCarry | None = None
    ) -> tuple[Array, TransformerCarry | None]:
        length = x.shape[0]
        position, first = (jnp.int32(0), jnp.int32(0)) if carry is None else (carry.position, carry.first)
        place = placed(length, start, position, first)
        begins = jnp.zeros(length, jnp.bool_) if start is None else start
        if carry is None:
            place = place._replace(first=None) if start is None else place
            y = through_layers(self.blocks, self._positioned(x, place), (begins, place), self._empty(None))
            return self._normed(y), None
        x, layers = self._positioned(x, place), []
        for block, before in zip(self.blocks, carry.layers, strict=True):
            x, after = block(x, begins, place, before)
            layers.append(after)
        assert place.first is not None
        return self._normed(x), TransformerCarry(tuple(layers), position + length, place.first[-1])

    def _normed(self, x: Array) -> Array:
        return self.norm(x) if self.ends_in_norm else x

    def _positioned(self, x: Array, place: Place) -> Array:
        if self.positions == "learned":
            return x + self.position[place.since_start]
        if self.positions == "sinusoidal":
            return x + sinusoidal(place.since_start, self.width).astype(x.dtype)
        return x
