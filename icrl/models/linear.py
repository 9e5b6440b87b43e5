"""Linear maps, in the precision that a model's settings ask for; the one place where bfloat16 enters.

Parameters, states, softmax and scans stay in float32. With ``matmuls`` "bfloat16" the two factors of a linear map are
rounded to bfloat16 and their products summed in float32, which tensor cores do many times faster.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.types import Array


def rounded_dot_general(lhs: Array, rhs: Array, dimension_numbers: Any, precision: Any = None, **_: Any) -> Array:
    """``jax.lax.dot_general`` of factors rounded to bfloat16, summed in float32."""
    lhs, rhs = lhs.astype(jnp.bfloat16), rhs.astype(jnp.bfloat16)
    return jax.lax.dot_general(lhs, rhs, dimension_numbers, precision, preferred_element_type=jnp.float32)


DOTS: dict[str, Callable[..., Array]] = {"float32": jax.lax.dot_general, "bfloat16": rounded_dot_general}


def linear(matmuls: str, features_in: int, features_out: int, rngs: nnx.Rngs, **options: Any) -> nnx.Linear:
    """An ``nnx.Linear`` whose product is computed as ``matmuls`` says: a key of ``DOTS``."""
    return nnx.Linear(features_in, features_out, dot_general=DOTS[matmuls], rngs=rngs, **options)
