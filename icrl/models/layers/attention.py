"""Causal attention of a whole sequence, with the platform's fastest evaluation chosen in this one place.

A position attends to itself and the past, from a first visible slot on. Two kinds of weights:

- ``softmax``: exp(q . k / sqrt(d)), divided by their sum (Vaswani et al. 2017);
- ``relu``: max(q . k, 0), divided by the number of visible slots (Lin et al. 2023): no sum over other positions.

Letters: T positions, H heads, d features a head. Weights are in float32 at least, always; a product of factors in
bfloat16 is summed in float32. What acts reads on behind a memory instead: ``cached_attention.py``.
"""

import functools

import jax
import jax.numpy as jnp

from icrl.core.types import Array
from icrl.models.layers.tiled_attention import tiled_attention

KINDS = ("softmax", "relu")
FUSED_FEATURES = 128  # a head's, at most and in multiples of 8, for cuDNN's kernel on every GPU that has it


def causal_attention(
    q: Array, k: Array, v: Array, first: Array | None = None, kind: str = "softmax", window: int = 0
) -> Array:
    """What q finds of v, position by position.

    Args:
      q, k, v: [T, H, d].
      first: [T] int32, the earliest position that each may see; None: all may see the whole past.
      kind: of the weights.
      window: when positive, positions see at most so many, themselves included.

    Returns:
      [T, H, d], of q's type or float32. Memory grows with T and not with its square: tile by tile, or, on CUDA with
      factors in bfloat16 and unless a start hides a part of the past, in cuDNN's fused kernel.
    """
    if first is None and _is_fused(q, kind):
        return _fused(q, k, v, window)
    length = q.shape[0]
    first = jnp.zeros(length, jnp.int32) if first is None else first
    if window:
        first = jnp.maximum(first, jnp.arange(length) - (window - 1))
    return tiled_attention(scaled(q, kind), k, v, first, kind, window or length)


def _is_fused(q: Array, kind: str) -> bool:
    """Whether cuDNN has a kernel for this platform, these weights and these factors."""
    fits = q.shape[-1] % 8 == 0 and q.shape[-1] <= FUSED_FEATURES
    return fits and q.dtype == jnp.bfloat16 and kind == "softmax" and _has_cudnn()


@functools.cache
def _has_cudnn() -> bool:
    """Whether the default device is a CUDA GPU of compute capability 8 or later."""
    device = jax.devices()[0]
    is_cuda = device.platform == "gpu" and "cuda" in device.client.platform_version.lower()
    return is_cuda and float(device.compute_capability) >= 8.0


def _fused(q: Array, k: Array, v: Array, window: int) -> Array:
    """The kernel asks for an even number of positions: one more, at the end, is seen by none of the others."""
    length, reach = q.shape[0], (window - 1, 0) if window else None
    q, k, v = (jnp.pad(x, ((0, length % 2), (0, 0), (0, 0))) for x in (q, k, v))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True, local_window_size=reach, implementation="cudnn")
    return y[:length]


def scaled(q: Array, kind: str) -> Array:
    """The queries [..., d] whose products with keys are scores of ``kind``."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    return (q.astype(wide) * q.shape[-1] ** -0.5).astype(q.dtype) if kind == "softmax" else q
