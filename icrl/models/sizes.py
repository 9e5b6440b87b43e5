"""How large the registered models are: parameters, and the bytes of what they remember. Nothing is computed."""

from typing import Any, NamedTuple

import jax
from flax import nnx

from icrl.registry import models
from icrl.types import ModelConfig, SequenceModel

CAPACITY = 1000  # tokens that a memory which grows has room for


class Size(NamedTuple):
    """Of a sequence model without embedding and head."""

    parameters: int
    state_bytes: int  # of one context; a transformer's cache has room for the capacity


def size_of(name: str, config: ModelConfig | None = None, capacity: int = CAPACITY) -> Size:
    """The size of a registered model with ``config`` (its defaults when None), from shapes alone.

    Raises:
      InputError: an unknown name.
    """
    cls = models[name]
    model = nnx.eval_shape(lambda: cls(config or cls.Config(), capacity, nnx.Rngs(0)))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return Size(parameters, _bytes(jax.eval_shape(_initial_carry, model)))


def _initial_carry(model: SequenceModel) -> Any:
    return model.initial_carry()


def _bytes(shapes: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
