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
    """A value that follows a parameter, or what layers see, slowly. It gets no gradient; training keeps it."""


class AuxiliaryLayer(nnx.Module):
    """Base of the layers that want more. ``record`` is written only while ``watched``; noise needs the ``key``."""

    needs_whole_batch = True  # whether its loss of a batch is more than the mean of the losses of its rows

    def __init__(self, label: str):
        self.label = label  # names its statistics: "layer_1_token"
        self.watched = False
        self.key: Array | None = nnx.data(None)  # typed, of this sequence
        self.record: Any = nnx.data(
            None
        )  # what the latest call left for ``loss`` and ``statistics``: [T, ...] or [...]

    @property
    def idle(self) -> int:
        """Scalars of its parameters that no token meets where the policy acts; here none."""
        return 0

    def loss(self, record: Any) -> Array:
        """Its weighted loss of a batch, [] float32, from records with a leading axis [B]."""
        raise NotImplementedError(f"{type(self).__name__} must define loss")

    def statistics(self, record: Any) -> dict[str, Array]:
        """What is worth a curve, by name, [] float32 each, from records with a leading axis [B]."""
        raise NotImplementedError(f"{type(self).__name__} must define statistics")

    def seen(self, record: Any) -> Any:
        """What a batch tells its slow values, a pytree, from records with a leading axis [B]; nothing by default.

        ``follow`` gets its mean over the micro-batches of a step.
        """
        del record
        return ()

    def follow(self, seen: Any) -> None:
        """Move the slow values one step, towards their parameters or what was ``seen``; here there are none."""


def auxiliary_layers(network: nnx.Module) -> list[AuxiliaryLayer]:
    """All of them, in an order that only the network's structure decides."""
    return [module for _, module in nnx.iter_modules(network) if isinstance(module, AuxiliaryLayer)]


def watch(layers: list[AuxiliaryLayer], key: Array | None) -> None:
    """Let the layers' next call record, and with a typed key draw noise from keys of their own."""
    for number, layer in enumerate(layers):
        layer.watched = True
        layer.key = None if key is None else jax.random.fold_in(key, number)
