"""GPT-style causal transformer: pre-LN, GELU, learned absolute positions (Radford et al. 2019, as used by DPT).

The decision-pretrained transformer of Lee et al. 2023 is this model with width 32, 4 layers and MLP 4x. Their text
says 4 heads and no positions, their code runs one head and learned positions; both are settings here.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.errors import require, require_int
from icrl.models.attention import CACHE_CHUNK, cached_attention, causal_attention
from icrl.models.feed_forward import FeedForwardConfig, new_feed_forward
from icrl.registry import models
from icrl.types import Array, SequenceModel

POSITIONS = ("learned", "none")


class TransformerCarry(NamedTuple):
    """Keys and values of the past. C is the capacity rounded up to whole cache chunks."""

    keys: tuple[Array, ...]  # a layer: [H, C, d] float32
    values: tuple[Array, ...]  # a layer: [H, C, d] float32
    position: Array  # [] int32, slots filled so far
    first: Array  # [] int32, slot of the latest start: nothing before it is visible
    feed_forward: tuple[Any, ...]  # a layer: what its feed-forward remembers, () for an MLP


@dataclasses.dataclass(frozen=True)
class TransformerConfig(FeedForwardConfig):
    """Shape of the model. ``init_std`` is that of all matrices; into the residual stream over sqrt(2 layers)."""

    num_heads: int = 4  # H, divides width
    positions: str = "learned"  # "learned" absolute positions, or "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("num_heads", self.num_heads, 1, self.width)
        require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of width {self.width}")
        require(self.positions in POSITIONS, "positions", self.positions, " or ".join(POSITIONS))


class Block(nnx.Module):
    """x + attention(LN x), then x + feed_forward(LN x)."""

    def __init__(self, config: TransformerConfig, number: int, rngs: nnx.Rngs):
        width = config.width
        init = nnx.initializers.normal(config.init_std)
        residual_init = nnx.initializers.normal(config.init_std / (2 * config.num_layers) ** 0.5)
        self.num_heads = config.num_heads
        self.norm_attention = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, kernel_init=init, rngs=rngs)
        self.mix = nnx.Linear(width, width, kernel_init=residual_init, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.feed_forward = new_feed_forward(config, number, rngs, init, residual_init)

    def heads(self, x: Array) -> tuple[Array, Array, Array]:
        """q, k, v [T, H, d] of x [T, D]."""
        qkv = self.qkv(self.norm_attention(x)).reshape(x.shape[0], 3, self.num_heads, -1)
        return qkv[:, 0], qkv[:, 1], qkv[:, 2]

    def finish(self, x: Array, attended: Array, start: Array, carry: Any) -> tuple[Array, Any]:
        """Add what attention [T, H, d] found and the feed-forward to x [T, D]; and the feed-forward's carry."""
        x = x + self.mix(attended.reshape(x.shape))
        y, carry = self.feed_forward(self.norm_mlp(x), start, carry)
        return x + y, carry


@models.register("transformer", paper="Radford et al. 2019; Lee et al. 2023")
class Transformer(SequenceModel):
    """Causal transformer over x [T, D]; ``capacity`` is the number of positions it can hold since the carry was made.

    The caller keeps count: positions past the capacity are not refused inside jitted code.
    """

    Config = TransformerConfig

    def __init__(self, config: TransformerConfig, capacity: int, rngs: nnx.Rngs):
        self.capacity = require_int("capacity", capacity, 1, 2**24)
        self.config = config
        self.width = config.width
        self.blocks = nnx.List([Block(config, number, rngs) for number in range(config.num_layers)])
        self.norm = nnx.LayerNorm(config.width, epsilon=1e-5, rngs=rngs)
        if config.positions == "learned":
            init = nnx.initializers.normal(config.init_std)
            self.position = nnx.Embed(capacity, config.width, embedding_init=init, rngs=rngs)

    def initial_carry(self) -> TransformerCarry:
        shape = (self.config.num_heads, _cache_slots(self.capacity), self.width // self.config.num_heads)
        empty = tuple(jnp.zeros(shape, jnp.float32) for _ in range(self.config.num_layers))
        return TransformerCarry(empty, empty, jnp.int32(0), jnp.int32(0), self._initial_feed_forward())

    def _initial_feed_forward(self) -> tuple[Any, ...]:
        return tuple(block.feed_forward.initial_carry() for block in self.blocks)

    def __call__(
        self, x: Array, start: Array | None = None, carry: TransformerCarry | None = None
    ) -> tuple[Array, TransformerCarry | None]:
        if carry is None:
            return self._parallel(x, start), None
        return self._cached(x, start, carry)

    def _parallel(self, x: Array, start: Array | None) -> Array:
        time = jnp.arange(x.shape[0])
        segment = None if start is None else jnp.cumsum(start)
        since_start = time if start is None else time - jax.lax.cummax(jnp.where(start, time, 0))
        x = self._add_positions(x, since_start)
        begins = jnp.zeros(x.shape[0], jnp.bool_) if start is None else start
        for block, empty in zip(self.blocks, self._initial_feed_forward(), strict=True):
            x, _ = block.finish(x, causal_attention(*block.heads(x), segment), begins, empty)
        return self.norm(x)

    def _cached(self, x: Array, start: Array | None, carry: TransformerCarry) -> tuple[Array, TransformerCarry]:
        slot = carry.position + jnp.arange(x.shape[0])
        start = jnp.zeros(x.shape[0], jnp.bool_) if start is None else start
        first = jax.lax.cummax(jnp.where(start, slot, carry.first))
        x = self._add_positions(x, slot - first)
        keys, values, fed = [], [], []
        remembered = zip(self.blocks, carry.keys, carry.values, carry.feed_forward, strict=True)
        for block, old_keys, old_values, old_fed in remembered:
            q, k, v = block.heads(x)
            keys.append(_written(old_keys, k, carry.position))
            values.append(_written(old_values, v, carry.position))
            attended = cached_attention(q, keys[-1], values[-1], carry.position, first)
            x, state = block.finish(x, attended, start, old_fed)
            fed.append(state)
        after = TransformerCarry(tuple(keys), tuple(values), carry.position + x.shape[0], first[-1], tuple(fed))
        return self.norm(x), after

    def _add_positions(self, x: Array, since_start: Array) -> Array:
        return x + self.position(since_start) if self.config.positions == "learned" else x


def _written(cache: Array, new: Array, position: Array) -> Array:
    """The cache [H, C, d] with ``new`` [T, H, d] in slots position .. position + T - 1."""
    return jax.lax.dynamic_update_slice_in_dim(cache, new.transpose(1, 0, 2), position, axis=1)


def _cache_slots(capacity: int) -> int:
    """Capacity rounded up to whole chunks, so that no chunk reaches over the end."""
    return capacity if capacity <= CACHE_CHUNK else -(-capacity // CACHE_CHUNK) * CACHE_CHUNK
