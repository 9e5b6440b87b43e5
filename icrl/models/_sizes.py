"""How large the registered models are: parameters, and the bytes of what they remember. Nothing is computed.

``matched`` turns the question round: the settings that give a model so many parameters, for fair comparisons.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx

from icrl.core.errors import InputError, require, require_int
from icrl.core.model_types import ModelConfig, SequenceModel
from icrl.core.registry import models

CAPACITY = 1000  # tokens that a memory which grows has room for
MOST = 4096  # values of a setting among which ``matched`` looks
FINE = 1 / 64  # step between them if the setting is not an integer


class Size(NamedTuple):
    """Of a sequence model without embedding and head."""

    parameters: int
    state_bytes: int  # of one context; a transformer's cache has room for the capacity


def size_of(name: str, config: ModelConfig | None = None, capacity: int = CAPACITY) -> Size:
    """The size of a registered model with ``config`` (its defaults when None), from shapes alone.

    Raises:
      InputError: an unknown name.
    """
    model = _shapes(name, config or models[name].Config(), capacity)
    return Size(_parameters(model), _bytes(jax.eval_shape(_initial_carry, model)))


def matched(
    name: str,
    parameters: int,
    config: ModelConfig | None = None,
    capacity: int = CAPACITY,
    per_feature: int = 0,
    tolerance: float = 0.03,
) -> ModelConfig:
    """The ``config`` (defaults when None) with its sizes changed so that the model has about so many parameters.

    The settings that ``config.sizes`` names are fitted in turn, each as near as its values allow; the rest stays.

    Args:
      name: of a registered model.
      parameters: wanted, of the model and what ``per_feature`` adds.
      config: where the search begins.
      capacity: tokens there must be room for; learned positions are parameters.
      per_feature: parameters outside the model per feature of its width: D + 1 + K for a linear embedding of
        D-dimensional tokens and a linear head over K actions (whose K biases do not count).
      tolerance: largest relative error.

    Raises:
      InputError: an unknown name, or a number that no setting comes near to.
    """
    require_int("parameters", parameters, 1, 2**40)
    config = config or models[name].Config()

    def count(config: ModelConfig) -> int:
        return _parameters(_shapes(name, config, capacity)) + per_feature * config.width

    for field in config.sizes:
        step = 1 if isinstance(getattr(config, field), int) else FINE
        options = [option for n in range(1, MOST + 1) if (option := _with(config, field, n * step)) is not None]
        config = _nearest(options, parameters, count)
    found = count(config)
    near = abs(found - parameters) <= tolerance * parameters
    require(near, "parameters", parameters, f"what {name} can have, such as {found}", "or a larger tolerance")
    return config


def _nearest(options: Sequence[ModelConfig], wanted: int, count: Callable[[ModelConfig], int]) -> ModelConfig:
    """The option whose count, which rises with the options, is nearest to ``wanted``.

    Counting is slow (a model is traced each time), so this interpolates: the root of the count is nearly linear.
    """
    ends = [(count(options[at]), at) for at in (0, len(options) - 1)]
    while ends[0][0] < wanted < ends[1][0] and ends[1][1] - ends[0][1] > 1:
        (small, low), (large, high) = ends
        share = (math.sqrt(wanted) - math.sqrt(small)) / (math.sqrt(large) - math.sqrt(small))
        middle = min(max(low + round(share * (high - low)), low + 1), high - 1)
        found = count(options[middle])
        ends[found > wanted] = (found, middle)
    return options[min(ends, key=lambda end: abs(end[0] - wanted))[1]]


def _with(config: ModelConfig, field: str, value: float) -> ModelConfig | None:
    """The settings with one value changed, or None if they refuse it."""
    try:
        return dataclasses.replace(config, **{field: value})  # type: ignore[arg-type]
    except InputError:
        return None


def _shapes(name: str, config: ModelConfig, capacity: int) -> SequenceModel:
    return nnx.eval_shape(lambda: models[name](config, capacity, nnx.Rngs(0)))


def _parameters(model: SequenceModel) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _initial_carry(model: SequenceModel) -> Any:
    return model.initial_carry()


def _bytes(shapes: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
