"""A box of actions: vectors of real numbers between bounds, where actions are not numbered."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import jax
import jax.numpy as jnp

from icrl.core.errors import require, require_int
from icrl.core.threefry import uniform

Array = jax.Array
MAX_DIM = 4096


@dataclasses.dataclass(frozen=True)
class Box:
    """All vectors [A] float32 with ``low <= a <= high`` in every component."""

    low: tuple[float, ...]  # A of them, finite
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        require_int("action box: dim", len(self.low), 1, MAX_DIM)
        require(len(self.low) == len(self.high), "action box: high", self.high, f"{len(self.low)} numbers, as low has")
        for low, high in zip(self.low, self.high, strict=True):
            ordered = math.isfinite(low) and math.isfinite(high) and low < high
            require(ordered, "action box", f"{low} .. {high}", "finite bounds, the first below the second")

    @classmethod
    def cube(cls, dim: int, half: float = 1.0) -> Self:
        """[-half, half] in each of ``dim`` components."""
        return cls((-half,) * dim, (half,) * dim)

    @property
    def dim(self) -> int:
        """A."""
        return len(self.low)

    def clip(self, action: Array) -> Array:
        """The nearest action in the box to ``action`` [..., A]."""
        return jnp.clip(action, _along(self.low, action), _along(self.high, action))

    def draw(self, key: Array) -> Array:
        """A uniform action, [A] float32; ``key`` is consumed."""
        return self.from_unit(uniform(key, (self.dim,), -1.0, 1.0))

    def to_unit(self, action: Array) -> Array:
        """``action`` [..., A], clipped, with the box as [-1, 1] in each component."""
        middle, half = self._middle_and_half
        return (self.clip(action) - _along(middle, action)) / _along(half, action)

    def from_unit(self, unit: Array) -> Array:
        """The action [..., A] that ``unit`` in [-1, 1] stands for; what lies outside is clipped."""
        middle, half = self._middle_and_half
        return self.clip(_along(middle, unit) + _along(half, unit) * unit)

    @property
    def _middle_and_half(self) -> tuple[list[float], list[float]]:
        ends = list(zip(self.low, self.high, strict=True))
        return [(low + high) / 2 for low, high in ends], [(high - low) / 2 for low, high in ends]


def _along(values: Sequence[float], like: Array) -> Array:
    """``values`` [A] with as many axes as ``like`` [..., A]."""
    return jnp.array(values, jnp.float32).reshape(*[1] * (like.ndim - 1), -1)
