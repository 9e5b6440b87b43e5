"""Linear maps, in the precision that a model's settings ask for; the one place where bfloat16 enters.

Parameters, states, softmax, scans and the residual stream stay in float32. With ``matmuls`` "bfloat16" the factors of a
linear map and of attention's products are rounded to bfloat16, which tensor cores multiply many times faster, summing
in float32. What a linear map gives is rounded once more, so that its gradient's factors are of 16 bits too; so are the
gradients of its weights. With "tensorfloat32" linear maps alone are as coarse as the platform likes best.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.types import Array


def rounded_dot_general(lhs: Array, rhs: Array, dimension_numbers: Any, precision: Any = None, **_: Any) -> Array:
    """``jax.lax.dot_general`` of factors rounded to bfloat16, rounded to bfloat16, in the type of the factors."""
    dtype = jnp.promote_types(lhs.dtype, rhs.dtype)
    lhs, rhs = rounded("bfloat16", lhs, rhs)
    return coarse_dot_general(lhs, rhs, dimension_numbers).astype(dtype)


def coarse_dot_general(lhs: Array, rhs: Array, dimension_numbers: Any, precision: Any = None, **_: Any) -> Array:
    """``jax.lax.dot_general`` in the platform's fastest precision, whatever is asked for around it."""
    return jax.lax.dot_general(lhs, rhs, dimension_numbers, jax.lax.Precision.DEFAULT)


def rounded(matmuls: str, *factors: Array) -> tuple[Array, ...]:
    """Factors of a product as ``matmuls`` asks for them."""
    return tuple(factor.astype(jnp.bfloat16) for factor in factors) if matmuls == "bfloat16" else factors


DOTS: dict[str, Callable[..., Array]] = {
    "float32": jax.lax.dot_general,
    "tensorfloat32": coarse_dot_general,
    "bfloat16": rounded_dot_general,
}


def linear(matmuls: str, features_in: int, features_out: int, rngs: nnx.Rngs, **options: Any) -> nnx.Linear:
    """An ``nnx.Linear`` whose product is computed as ``matmuls`` says: a key of ``DOTS``."""
    return nnx.Linear(features_in, features_out, dot_general=DOTS[matmuls], rngs=rngs, **options)
