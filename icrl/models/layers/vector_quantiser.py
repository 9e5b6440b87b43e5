"""Vector quantisation: a continuous vector becomes the nearest of a few codes (van den Oord et al. 2017).

Aaron van den Oord, Oriol Vinyals, Koray Kavukcuoglu, "Neural Discrete Representation Learning", 2017: the gradient
passes the bottleneck as if nothing were quantised (straight-through), a commitment loss keeps vectors near their codes,

    w_commit ||z - stop_gradient(e)||^2 / d,

and the codes are moving averages of what chose them (their appendix A.1): with n and m the averages of how many vectors
of a sequence chose a code and of their sum, e = m / n.

Ours: z is brought to length sqrt(d), so that distances mean the same all through training; M bottlenecks of d features
stand side by side, each with a codebook of its own; and a code that nobody chooses takes half of the vectors of the
code whose vectors are farthest from it, of which as many are split as there are unused ones.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from icrl.core.fields import Checked, setting
from icrl.core.types import Array
from icrl.models.layers.auxiliary import AuxiliaryLayer, Slow

TINY = 1e-6
FIRST = 0.25  # what the place where a code begins weighs, as if so many vectors of a sequence had chosen it
UNUSED = 0.05  # a code chosen less often than this share of the mean is unused
COARSE = 0.05  # squared distance a feature beyond which a code is worth splitting; that of a vector's own length is 1
APART = 0.5  # how far the halves of a split code are moved, in standard deviations of its vectors


@dataclasses.dataclass(frozen=True)
class CodebookConfig(Checked):
    """Shape and losses of a bottleneck."""

    num_codes: int = setting(128, low=2, high=65536, help="C, codes of each bottleneck")
    num_bottlenecks: int = setting(1, low=1, high=64, help="M, bottlenecks side by side; a node is a tuple of codes")
    code_dim: int = setting(32, low=1, high=4096, help="d, features of a code")
    commitment: float = setting(0.25, low=0.0, help="w_commit, weight of the distance between vectors and their codes")
    code_decay: float = setting(0.99, low=0.0, high=1.0, open_high=True, help="of the codes' moving averages, a step")


class Record(NamedTuple):
    """What one sequence tells."""

    codes: Array  # [T, M] int32
    distance: Array  # [M] mean squared distance of vectors and codes, a feature
    uses: Array  # [M, C] how many vectors chose each code
    sums: Array  # [M, C, d] their sum
    spread: Array  # [M, C] the sum of their squared distances from it


class VectorQuantiser(AuxiliaryLayer):
    """Maps y [T, M d] to codes [T, M d]; ``quantise`` tells their numbers as well."""

    needs_whole_batch = False

    def __init__(self, config: CodebookConfig, rngs: nnx.Rngs, label: str = "code"):
        super().__init__(label)
        self.config = config
        shape = (config.num_bottlenecks, config.num_codes, config.code_dim)
        codes = _of_length(jax.random.normal(rngs.params(), shape, jnp.float32))
        self.uses = Slow(jnp.full(shape[:2], FIRST, jnp.float32))
        self.sums = Slow(FIRST * codes)
        self.spread = Slow(jnp.zeros(shape[:2], jnp.float32))

    @property
    def codebook(self) -> Array:
        """E [M, C, d]."""
        return self.sums[...] / self.uses[...][..., None]

    def quantise(self, y: Array) -> tuple[Array, Array, Array]:
        """Vectors z, the nearest codes e, both [T, M, d], and their numbers [T, M] int32, for y [T, M d]."""
        z = _of_length(y.reshape(y.shape[0], self.config.num_bottlenecks, self.config.code_dim))
        book = self.codebook
        closeness = jnp.einsum("tmd,mcd->tmc", z, book) - 0.5 * jnp.sum(book**2, axis=-1)[None]
        numbers = jnp.argmax(closeness, axis=-1).astype(jnp.int32)
        chosen = jax.nn.one_hot(numbers, self.config.num_codes, dtype=jnp.float32)
        return z, jnp.einsum("tmc,mcd->tmd", chosen, book), numbers

    def __call__(self, y: Array) -> Array:
        """The codes of y [T, M d], [T, M d], through which gradients pass unchanged."""
        z, codes, numbers = self.quantise(y)
        if self.watched:
            self.record = self._recorded(z, codes, numbers)
        return (z + jax.lax.stop_gradient(codes - z)).reshape(y.shape)

    def _recorded(self, z: Array, codes: Array, numbers: Array) -> Record:
        squares = jnp.sum((z - jax.lax.stop_gradient(codes)) ** 2, axis=-1) / self.config.code_dim  # [T, M]
        fixed, far = jax.lax.stop_gradient((z, squares))
        chosen = jax.nn.one_hot(numbers, self.config.num_codes, dtype=jnp.float32)
        return Record(
            numbers,
            squares.mean(0),
            chosen.sum(0),
            jnp.einsum("tmc,tmd->mcd", chosen, fixed),
            jnp.einsum("tmc,tm->mc", chosen, far),
        )

    def loss(self, record: Record) -> Array:
        return self.config.commitment * jnp.mean(record.distance)

    def statistics(self, record: Record) -> dict[str, Array]:
        """``used``: e to the entropy of the codes, as if so many were in even use; ``distance``: to the codes."""
        share = record.uses.sum(0) / jnp.sum(record.uses[:, 0])
        entropy = -jnp.sum(jax.scipy.special.xlogy(share, share), axis=-1)
        return {"used": jnp.mean(jnp.exp(entropy)), "distance": jnp.mean(record.distance)}

    def seen(self, record: Record) -> Any:
        return tuple(field.mean(0) for field in (record.uses, record.sums, record.spread))

    def follow(self, seen: Any) -> None:
        if not seen:
            return
        decay = self.config.code_decay
        slow = (self.uses, self.sums, self.spread)
        moved = [decay * old[...] + (1 - decay) * new for old, new in zip(slow, seen, strict=True)]
        for place, value in zip(slow, jax.vmap(split_unused)(*moved), strict=True):
            place[...] = value


def split_unused(uses: Array, sums: Array, spread: Array) -> tuple[Array, Array, Array]:
    """Averages of a codebook, uses [C], sums [C, d] and spread [C], after coarse codes have shared with unused ones.

    The r-th unused code gets half of the r-th coarsest; the two part along a direction that is drawn once and for all.
    """
    count, dim = sums.shape
    unused = uses < UNUSED * jnp.mean(uses)
    rank = jnp.cumsum(unused) - 1  # of the unused codes among themselves
    order = jnp.argsort(-jnp.where(unused, 0.0, spread))
    source = order[jnp.clip(rank, 0, count - 1)]  # [C], of those that are unused
    coarse = spread / jnp.maximum(uses, TINY)
    splits = unused & ~unused[source] & (coarse[source] > COARSE)
    is_split = jnp.zeros(count, bool).at[jnp.where(splits, source, count)].set(True, mode="drop")
    ways = jnp.asarray(np.random.default_rng(0).standard_normal((count, dim)), jnp.float32)
    codes = sums / jnp.maximum(uses, TINY)[:, None]
    half, apart = 0.5 * uses[source], APART * jnp.sqrt(coarse[source])[:, None] * ways
    new = (half, half[:, None] * (codes[source] + apart), 0.5 * spread[source])
    old = tuple(jnp.where(_as_wide(is_split, each), 0.5 * each, each) for each in (uses, sums, spread))
    made = (jnp.where(_as_wide(splits, a), a, b) for a, b in zip(new, old, strict=True))
    uses, sums, spread = made
    least = jnp.maximum(uses, TINY)  # nobody chose it for a long time: its place is kept
    return least, sums * (least / jnp.maximum(uses, TINY * TINY))[:, None], spread


def _as_wide(flags: Array, like: Array) -> Array:
    return flags.reshape(flags.shape + (1,) * (like.ndim - 1))


def _of_length(z: Array) -> Array:
    """Z [..., d] at length sqrt(d)."""
    return z / jnp.sqrt(jnp.mean(z**2, axis=-1, keepdims=True) + TINY)
