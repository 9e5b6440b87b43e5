"""Layers one after the other: a few are written out, more of the same kind are one ``scan``, compiled once.

Written out, XLA works across layers and nothing is copied; tracing and compiling take time for each of them. A scan
stacks the parameters and what the backward pass wants, which costs 10 % (16 layers) to 40 % (4) of a step on two CPU
cores, and its program is that of one layer whatever the depth.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.types import Array
from icrl.models.layers.auxiliary import auxiliary_layers

WRITTEN_OUT = 8  # layers of a kind, one behind the other, at most


def through_layers(layers: Sequence[Any], x: Array, given: tuple[Any, ...], pasts: Sequence[Any]) -> Array:
    """What all ``layers`` make of x [T, D]; each maps (x, *given, past) to (x, future), and futures are not wanted.

    Where futures are wanted, callers write the layers out: a scan would copy each cache at every step.
    """
    parts = [(*nnx.split(layer), past, layer) for layer, past in zip(layers, pasts, strict=True)]
    for definition, run in itertools.groupby(parts, key=lambda part: part[0]):
        states, empties, alike = zip(*(part[1:] for part in run), strict=True)
        if len(alike) <= WRITTEN_OUT or auxiliary_layers(alike[0]):  # these record into themselves
            for layer, past in zip(alike, empties, strict=True):
                x, _ = layer(x, *given, past)
            continue

        def one_more(x: Array, own: Any, definition: Any = definition) -> tuple[Array, None]:
            state, past = own
            return nnx.merge(definition, state)(x, *given, past)[0], None

        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(states, empties, strict=True))
        x, _ = jax.lax.scan(one_more, x, stacked)
    return x
