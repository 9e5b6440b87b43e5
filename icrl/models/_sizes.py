"""How large the registered models are: parameters, and the bytes of what they remember. Nothing is computed.

``matched`` turns the question round: the settings that give a model so many parameters, for fair comparisons.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
from flax import nnx

from icrl.core.errors import InputError, require, require_int
from icrl.core.model_types import ModelConfig, SequenceModel
from icrl.core.registry import models
from icrl.models.layers.feed_forward import FeedForwardConfig
from icrl.models.layers.moe import MixtureOfExperts

CAPACITY = 1000  # tokens that a memory which grows has room for
MOST = 4096  # values of a setting among which ``matched`` looks
FINE = 1 / 64  # step between them if the setting is not an integer
ACTIVE, TOTAL = "active", "total"
AnyModule = TypeVar("AnyModule", bound=nnx.Module)


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
        config = _nearest(functools.partial(_with, config, field, step), parameters, count)
    found = count(config)
    near = abs(found - parameters) <= tolerance * parameters
    require(near, "parameters", parameters, f"what {name} can have, such as {found}", "or a larger tolerance")
    return config


def dense_twin(config: FeedForwardConfig, counted: str) -> FeedForwardConfig:
    """The ``config`` with an MLP in place of its experts that has as many parameters, to half a hidden unit.

    Args:
      config: of a model with a mixture of experts.
      counted: "total", all of them; "active", those that a token meets where the model acts.
    """
    experts = _from_shapes(lambda rngs: MixtureOfExperts(config.mixture, config.width, "", rngs))
    idle = sum(branch.idle for branch in experts.branches) if counted == ACTIVE else 0
    gated, width = config.mlp == "swiglu", config.width
    each, rest = (3 * width, 0) if gated else (2 * width + 1, width)
    hidden = max(round((_parameters(experts) - idle - rest) / each), 1)
    dense = dataclasses.replace(config.mixture, moe="none")
    return dataclasses.replace(config, mixture=dense, last_mlp_ratio=hidden / width)


def _nearest(
    option: Callable[[int], ModelConfig | None], wanted: int, count: Callable[[ModelConfig], int]
) -> ModelConfig:
    """The option, of 1 .. MOST, whose count, which rises with the options, is nearest to ``wanted``.

    Counting is slow (a model is traced each time), so this interpolates: the root of the count is nearly linear. To
    make an option is not free either: only those that are looked at are made. None is one that the model refuses.
    """
    upwards, downwards = range(1, MOST + 1), range(MOST, 0, -1)
    ends = [(count(made), at, made) for at, made in (next(_taken(option, order)) for order in (upwards, downwards))]
    while ends[0][0] < wanted < ends[1][0]:
        (small, low, _), (large, high, _) = ends
        share = (math.sqrt(wanted) - math.sqrt(small)) / (math.sqrt(large) - math.sqrt(small))
        middle = min(max(low + round(share * (high - low)), low + 1), high - 1)
        between = next(_taken(option, [*range(middle, low, -1), *range(middle + 1, high)]), None)
        if between is None:
            break
        at, made = between
        found = count(made)
        ends[found > wanted] = (found, at, made)
    return min(ends, key=lambda end: abs(end[0] - wanted))[2]


def _taken(option: Callable[[int], ModelConfig | None], order: Iterable[int]) -> Iterator[tuple[int, ModelConfig]]:
    """The options, in this order, that the model takes, with their numbers."""
    return ((n, made) for n in order if (made := option(n)) is not None)


def _with(config: ModelConfig, field: str, step: float, n: int) -> ModelConfig | None:
    """The settings with the value ``n * step`` of one of them, or None if they refuse it."""
    try:
        return dataclasses.replace(config, **{field: n * step})  # type: ignore[arg-type]
    except InputError:
        return None


class _SameKey(nnx.RngStream):
    """Gives its own key again and again: where only shapes are wanted, keeping count is most of what tracing costs."""

    def __call__(self) -> jax.Array:
        return self.key[...]


def _shapes(name: str, config: ModelConfig, capacity: int) -> SequenceModel:
    return _from_shapes(lambda rngs: models[name](config, capacity, rngs))


def _from_shapes(make: Callable[[nnx.Rngs], AnyModule]) -> AnyModule:
    def new() -> AnyModule:
        rngs = nnx.Rngs(0)
        rngs.default = _SameKey(0, tag="default")  # type: ignore[attr-defined]
        return make(rngs)

    return nnx.eval_shape(new)


def _parameters(model: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _initial_carry(model: SequenceModel) -> Any:
    return model.initial_carry()


def _bytes(shapes: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
