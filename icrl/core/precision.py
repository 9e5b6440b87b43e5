"""Numbers of 32 bits and exact products wherever agents, environments and policies run, on every platform.

Arrays that are made or drawn name their type. What Python's numbers and optax make of them would still follow
``jax_enable_x64``, and round differently: a program that has switched it on is to get the numbers of one that has not.
Nor does it matter here that a program wants its own types promoted strictly: ours meet as jax promotes them by default.

Accelerators multiply float32 more coarsely unless told otherwise, GPUs with 10 bits of mantissa (TensorFloat-32). The
forms of a model then agree to a few 1e-4 instead of 1e-5, and an agent's algebra is as coarse. What wants speed says so
itself (``matmuls`` of a model's settings).
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

NARROW = {"float64": "float32", "complex128": "complex64", "int64": "int32", "uint64": "uint32"}
P = ParamSpec("P")
R = TypeVar("R")


def exact_products(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, traced such that products of float32 are as exact as the platform can, unless one asks for less."""

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return traced


def in_32_bits(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, run and traced as without ``jax_enable_x64``; arrays of 64 bits are rounded as they enter.

    Types are promoted as jax does by default. A thread that ``function`` starts is not covered: jax's switches are a
    thread's own.
    """

    @functools.wraps(function)
    def narrow(*args: P.args, **kwargs: P.kwargs) -> R:
        wide, promotion = jax.config.jax_enable_x64, jax.config.jax_numpy_dtype_promotion  # type: ignore[attr-defined]
        if not wide and promotion == "standard":
            return function(*args, **kwargs)
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
            args, kwargs = jax.tree.map(_rounded, (args, kwargs))  # type: ignore[assignment]
            return function(*args, **kwargs)

    return narrow


def _rounded(leaf: Any) -> Any:
    """An array of 64-bit numbers in 32 bits; anything else as it is."""
    is_wide = isinstance(leaf, jax.Array) and str(leaf.dtype) in NARROW
    return leaf.astype(NARROW[str(leaf.dtype)]) if is_wide else leaf
