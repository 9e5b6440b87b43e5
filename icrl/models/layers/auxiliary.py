"""What a layer may want besides the gradient of the prediction: noise, a loss of its own, a slow copy of a parameter.

A model's call says nothing of this. Such a layer is an ``AuxiliaryLayer``; where one is found in the network,
``Policy.apply_with_aux`` gives it a key and collects what it recorded, ``Objective.loss`` adds its loss, and the
train step lets its slow values follow. A frozen policy gives no key: acting is deterministic and records nothing.
"""

from typing import Any

import jax
from flax import nnx

from icrl.core.types import Array


class Slow(nnx.Variable):
    """A value that follows a parameter slowly. It gets no gradient; training keeps it in its state."""


class AuxiliaryLayer(nnx.Module):
    """Base of the layers that want more. ``record`` is written only while ``watched``; noise needs the ``key``."""

    def __init__(self, label: str):
        self.label = label  # names its statistics: "layer_1_token"
        self.watched = False
        self.key: Array | None = nnx.data(None)  # typed, of this sequence
        self.record: Any = nnx.data(
            None
        )  # what the latest call left for ``loss`` and ``statistics``: [T, ...] or [...]

    def loss(self, record: Any) -> Array:
        """Its weighted loss of a batch, [] float32, from records with a leading axis [B]."""
        raise NotImplementedError(f"{type(self).__name__} must define loss")

    def statistics(self, record: Any) -> dict[str, Array]:
        """What is worth a curve, by name, [] float32 each, from records with a leading axis [B]."""
        raise NotImplementedError(f"{type(self).__name__} must define statistics")

    def follow(self) -> None:
        """Move the slow values one step towards their parameters; nothing to do for a layer without any."""


def auxiliary_layers(network: nnx.Module) -> list[AuxiliaryLayer]:
    """All of them, in an order that only the network's structure decides."""
    return [module for _, module in nnx.iter_modules(network) if isinstance(module, AuxiliaryLayer)]


def watch(layers: list[AuxiliaryLayer], key: Array | None) -> None:
    """Let the layers' next call record, and with a typed key draw noise from keys of their own."""
    for number, layer in enumerate(layers):
        layer.watched = True
        layer.key = None if key is None else jax.random.fold_in(key, number)
