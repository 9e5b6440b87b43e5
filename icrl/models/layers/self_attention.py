"""A layer of causal self-attention with its projections and, when acting, its memory of keys and values."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.types import Array
from icrl.models.layers.attention import causal_attention
from icrl.models.layers.cached_attention import Cache, Memory, Ring, cached_attention, empty_memory
from icrl.models.layers.linear import linear, rounded
from icrl.models.layers.positions import rotated


class Place(NamedTuple):
    """Where T new positions stand: the same for all layers."""

    position: Array  # [] int32, of the first of them
    first: Array | None  # [T] int32, the earliest that each may see: its latest start; None: position 0
    since_start: Array  # [T] int32, positions counted from the latest start


def placed(length: int, start: Array | None, position: Array, first: Array) -> Place:
    """Where ``length`` positions stand with start [T], behind ``position`` [] others, the latest start at ``first``."""
    all_of_them = position + jnp.arange(length, dtype=jnp.int32)
    latest = jnp.full(length, first) if start is None else jax.lax.cummax(jnp.where(start, all_of_them, first))
    return Place(position, latest, all_of_them - latest)


class SelfAttention(nnx.Module):
    """Mixes u [T, D] over time by ``kind`` of attention among ``num_heads`` heads of d = D / H features."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        rngs: nnx.Rngs,
        *,
        kind: str = "softmax",
        window: int = 0,
        rotary: bool = False,
        bias: bool = True,
        matmuls: str = "float32",
        init: Any = None,
        out_init: Any = None,
    ):
        """Draw the matrices into q, k and v with ``init`` and the one out of it with ``out_init``: lecun normal."""
        lecun = nnx.initializers.lecun_normal()
        self.H, self.d, self.kind, self.window, self.rotary = num_heads, width // num_heads, kind, window, rotary
        self.matmuls = matmuls
        self.qkv = linear(matmuls, width, 3 * width, rngs, use_bias=bias, kernel_init=init or lecun)
        self.mix = linear(matmuls, width, width, rngs, use_bias=bias, kernel_init=out_init or lecun)

    def empty_memory(self, capacity: int) -> Cache | Ring:
        """Room for ``capacity`` positions, or for those of the window."""
        return empty_memory(capacity, self.H, self.d, self.window)

    def __call__(self, u: Array, place: Place, memory: Memory | None) -> tuple[Array, Memory | None]:
        """Map u [T, D] to (y [T, D], memory); without a memory there is no past before u."""
        q, k, v = self.qkv(u).reshape(u.shape[0], 3, self.H, self.d).swapaxes(0, 1)
        if self.rotary:
            q, k = rotated(q, place.since_start), rotated(k, place.since_start)
        q, k, v = rounded(self.matmuls, q, k, v)
        if memory is None:
            y = causal_attention(q, k, v, place.first, self.kind, self.window)
        else:
            assert place.first is not None
            y, memory = cached_attention(q, k, v, memory, place.position, place.first, self.kind, self.window)
        return self.mix(y.reshape(u.shape).astype(u.dtype)), memory
