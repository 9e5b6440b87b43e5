"""Products of float32 in float32 wherever agents, environments and policies run, on every platform.

Accelerators multiply float32 more coarsely unless told otherwise, GPUs with 10 bits of mantissa (TensorFloat-32). The
forms of a model then agree to a few 1e-4 instead of 1e-5, and an agent's algebra is as coarse. What wants speed says so
itself (``matmuls`` of a model's settings).
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def exact_products(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, traced such that products of float32 are as exact as the platform can, unless one asks for less."""

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return traced
