"""The residual stack around every recurrent model: a model's own file is only its mixer.

A mixer maps the past to the present along time; everything else (norms, gating, residual sums, the final norm) is
here and the same for all, so that models differ in what they are named after. Three blocks are in use:

- ``mlp``: x + mixer(LN x), then x + MLP(LN x), the transformer's;
- ``glu``: x + W1 g * sigmoid(W2 g) with g = gelu(mixer(LN x)), that of S5 and LRU (Smith et al. 2023);
- ``none``: x + mixer(LN x), for mixers with a gate of their own (Mamba; Gu, Dao 2023).

A layer with experts ends in x + experts(LN x): in place of the MLP, or behind a block that has none.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from icrl.core.errors import require_int
from icrl.core.fields import setting
from icrl.core.model_types import SequenceModel
from icrl.core.types import Array
from icrl.models.layers.depth import through_layers
from icrl.models.layers.feed_forward import FeedForwardConfig, is_fed_apart, new_feed_forward
from icrl.models.layers.linear import linear

BLOCKS = ("mlp", "glu", "none")


@dataclasses.dataclass(frozen=True)
class StackConfig(FeedForwardConfig):
    """Shape of a stack. Matrices are drawn lecun normal: ``init_std`` is that of embedding and head only."""

    num_layers: int = 2
    block: str = setting("mlp", choices=BLOCKS, help="what follows the mixer in a layer")

    def is_endless(self, capacity: int) -> bool:
        del capacity
        return True

    @property
    def sizes(self) -> tuple[str, ...]:
        return ("width", "mlp_ratio") if self.block == "mlp" else ("width",)


class Mixer(nnx.Module):
    """A causal recurrence over u [T, D]. States are float32 (or wider) whatever the type of the weights.

    Built as ``Mixer(config, rngs)``. Its parameters are ``nnx.Param``; it holds no other arrays.
    """

    def initial_carry(self) -> Any:
        """State of an empty past: arrays of float32, complex64 or integers."""
        raise NotImplementedError(f"{type(self).__name__} must define initial_carry")

    def empty_past(self) -> Any:
        """The same for a sequence whose memory afterwards is not wanted: nothing need be kept."""
        return self.initial_carry()

    def __call__(self, u: Array, start: Array, carry: Any) -> tuple[Array, Any]:
        """Map u [T, D] with start [T] bool, the steps that forget everything before them, to (y [T, D], carry)."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


class LayerCarry(NamedTuple):
    """What one layer remembers."""

    mixer: Any
    feed_forward: Any  # () where there is none, or one without memory


class Layer(nnx.Module):
    """A mixer with its norm, and the block that follows it."""

    def __init__(self, config: StackConfig, number: int, mixer: Mixer, rngs: nnx.Rngs):
        width = config.width
        self.block = config.block
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.mixer = mixer
        self.feeds_forward = self.block == "mlp" or is_fed_apart(config, number)
        if self.feeds_forward:
            self.norm_mlp = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
            self.feed_forward = new_feed_forward(config, number, rngs)
        if self.block == "glu":
            self.value = linear(config.matmuls, width, width, rngs)
            self.gate = linear(config.matmuls, width, width, rngs)

    def initial_carry(self, kept: bool = True) -> LayerCarry:
        """Memory of an empty past; not ``kept``: its successor is not wanted."""
        after = self.feed_forward.initial_carry() if self.feeds_forward else ()
        return LayerCarry(self.mixer.initial_carry() if kept else self.mixer.empty_past(), after)

    def __call__(self, x: Array, start: Array, carry: LayerCarry) -> tuple[Array, LayerCarry]:
        """Map x [T, D] to (x [T, D], carry)."""
        y, mixed = self.mixer(self.norm(x), start, carry.mixer)
        x = x + (self._glu(jax.nn.gelu(y)) if self.block == "glu" else y)
        if not self.feeds_forward:
            return x, LayerCarry(mixed, ())
        y, fed = self.feed_forward(self.norm_mlp(x), start, carry.feed_forward)
        return x + y, LayerCarry(mixed, fed)

    def _glu(self, g: Array) -> Array:
        return self.value(g) * jax.nn.sigmoid(self.gate(g))


class ResidualStack(SequenceModel):
    """Base of the recurrent models. A subclass names its ``Config`` and its ``Mixer``, and is registered.

    ``capacity`` is accepted and not used: the state is of one size however long the past.
    """

    Config: ClassVar[type[StackConfig]]
    Mixer: ClassVar[type[Any]]  # a subclass of Mixer

    def __init__(self, config: StackConfig, capacity: int, rngs: nnx.Rngs):
        require_int("capacity", capacity, 1, 2**24)
        self.width, self.is_endless = config.width, config.is_endless(capacity)
        numbers = range(config.num_layers)
        mixers = [self.new_mixer(config, number, capacity, rngs) for number in numbers]
        self.layers = nnx.List([Layer(config, number, mixers[number], rngs) for number in numbers])
        self.norm = nnx.LayerNorm(config.width, epsilon=1e-5, rngs=rngs)

    def new_mixer(self, config: Any, number: int, capacity: int, rngs: nnx.Rngs) -> Any:
        """The mixer of layer ``number`` (from 0)."""
        del number, capacity
        return self.Mixer(config, rngs)

    def initial_carry(self) -> tuple[LayerCarry, ...]:
        return tuple(layer.initial_carry() for layer in self.layers)

    def __call__(self, x: Array, start: Array | None = None, carry: Any = None) -> tuple[Array, Any]:
        # an array of NumPy, so that layers know while tracing that nothing begins
        begins: Any = np.zeros(x.shape[0], np.bool_) if start is None else start
        if carry is None:
            return self.norm(through_layers(self.layers, x, (begins,), self._empty_past(x.dtype))), None
        after = []
        for layer, state in zip(self.layers, carry, strict=True):
            x, state = layer(x, begins, state)
            after.append(state)
        return self.norm(x), tuple(after)

    def _empty_past(self, dtype: Any) -> tuple[LayerCarry, ...]:
        empty = tuple(layer.initial_carry(kept=False) for layer in self.layers)
        return jax.tree.map(lambda h: _at_least(h, dtype), empty)


def _at_least(state: Array, dtype: Any) -> Array:
    """A state as precise as the input: float64 inputs (the laws' oracle) want float64 states."""
    if not jnp.issubdtype(state.dtype, jnp.inexact):
        return state
    return state.astype(jnp.promote_types(state.dtype, dtype))
