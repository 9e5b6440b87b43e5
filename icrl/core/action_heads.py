"""Action heads: what the outputs of a policy say of the next action, numbered or in a box.

Letters: K numbered actions, A components of an action in a box, u an action scaled so that its box is [-1, 1]^A.
Densities are those of u, whatever the bounds.
"""

import abc
import dataclasses
import math
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from icrl.core.boxes import Box
from icrl.core.errors import require
from icrl.core.threefry import categorical, normal

Array = jax.Array
LEAST_STD = 0.01  # of u: a likelihood has no bound where an action is always the same
INSIDE = 1 - 1e-3  # of the box: a squashed Gaussian has no density on its surface, where many optimal actions lie


class ActionHead(abc.ABC):
    """A distribution over actions, a function of ``size`` outputs."""

    dtype: ClassVar[Any]  # of an action
    none: ClassVar[float]  # stands for "no action" (in every component): nothing was done yet, or nothing can be chosen

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Numbers that the distribution is made of."""

    @property
    @abc.abstractmethod
    def action_shape(self) -> tuple[int, ...]:
        """Shape of an action: () or (A,)."""

    @abc.abstractmethod
    def sample(self, key: Array, out: Array) -> Array:
        """An action for outputs [size]; ``key`` is consumed."""

    @abc.abstractmethod
    def mode(self, out: Array) -> Array:
        """The action that only exploits, for outputs [size]."""

    @abc.abstractmethod
    def neg_log_prob(self, out: Array, action: Array) -> Array:
        """-log p of actions [..., *action_shape] under outputs [..., size], [...] float32 in nats."""

    def log_prob(self, out: Array, action: Array) -> Array:
        """The same without the minus."""
        return -self.neg_log_prob(out, action)

    @abc.abstractmethod
    def entropy(self, out: Array) -> Array:
        """Entropy in nats for outputs [..., size], [...] float32; what a bonus for exploring is made of."""

    @abc.abstractmethod
    def is_none(self, action: Array) -> Array:
        """Whether ``action`` stands for no action, [] bool."""

    def no_action(self) -> Array:
        """What stands for no action."""
        return jnp.full(self.action_shape, self.none, self.dtype)

    def if_finite(self, out: Array, action: Array) -> Array:
        """``action``, or none where outputs [size] are not finite: no choice rests on them."""
        return jnp.where(jnp.all(jnp.isfinite(out)), action, self.none).astype(self.dtype)

    def smoothed(self, smoothing: float) -> "ActionHead":
        """The same head with labels of which the share ``smoothing`` is spread over all actions."""
        require(smoothing == 0.0, "label_smoothing", smoothing, "0.0 for actions in a box")
        return self


@dataclasses.dataclass(frozen=True)
class Categorical(ActionHead):
    """K logits, one an action."""

    dtype = jnp.int32
    none = -1

    num_actions: int  # K
    smoothing: float | None = None  # e: labels are e / K everywhere and 1 - e more at the action; None: as 0

    @property
    def size(self) -> int:
        return self.num_actions

    @property
    def action_shape(self) -> tuple[int, ...]:
        return ()

    def sample(self, key: Array, out: Array) -> Array:
        return categorical(key, out)

    def mode(self, out: Array) -> Array:
        return jnp.argmax(out)

    def neg_log_prob(self, out: Array, action: Array) -> Array:
        return -self.log_prob(out, action)

    def log_prob(self, out: Array, action: Array) -> Array:
        """A masked sum, as gathers are slow on a CPU."""
        labels = jax.nn.one_hot(action, self.num_actions, dtype=jnp.float32)
        if self.smoothing is not None:
            labels = (1 - self.smoothing) * labels + self.smoothing / self.num_actions
        return jnp.sum(jax.nn.log_softmax(out) * labels, axis=-1)

    def entropy(self, out: Array) -> Array:
        return -jnp.sum(jax.nn.softmax(out) * jax.nn.log_softmax(out), -1)

    def is_none(self, action: Array) -> Array:
        return action < 0

    def no_action(self) -> Array:
        return jnp.int32(self.none)

    def smoothed(self, smoothing: float) -> Self:
        return dataclasses.replace(self, smoothing=smoothing)


@dataclasses.dataclass(frozen=True)
class BoxHead(ActionHead):
    """Base of the heads of actions in a box; those that they give lie inside."""

    dtype = jnp.float32
    none = math.nan

    box: Box

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (self.box.dim,)

    def is_none(self, action: Array) -> Array:
        return jnp.isnan(action[0])


@dataclasses.dataclass(frozen=True)
class Gaussian(BoxHead):
    """u ~ N(mean, std^2), components independent; outputs are A means and A numbers that give the standard deviations.

    A sample outside of the box is clipped, and counts as the density does where it is clipped to.
    """

    @property
    def size(self) -> int:
        return 2 * self.box.dim

    def sample(self, key: Array, out: Array) -> Array:
        mean, std = mean_and_std(out)
        return self.box.from_unit(mean + std * normal(key, mean.shape))

    def mode(self, out: Array) -> Array:
        return self.box.from_unit(mean_and_std(out)[0])

    def neg_log_prob(self, out: Array, action: Array) -> Array:
        return normal_neg_log_prob(*mean_and_std(out), self.box.to_unit(action))

    def entropy(self, out: Array) -> Array:
        return normal_entropy(mean_and_std(out)[1])


@dataclasses.dataclass(frozen=True)
class Squashed(BoxHead):
    """u = tanh(z), z ~ N(mean, std^2): inside of the box without a cut (Haarnoja et al. 2018, appendix C).

    Actions on the surface of the box, where tanh has no inverse, count as those at ``INSIDE`` of the way there. The
    mode is that of z, tanh(mean).
    """

    @property
    def size(self) -> int:
        return 2 * self.box.dim

    def sample(self, key: Array, out: Array) -> Array:
        mean, std = mean_and_std(out)
        z = mean + std * normal(key, mean.shape)
        return self.box.from_unit(jnp.tanh(z))

    def mode(self, out: Array) -> Array:
        return self.box.from_unit(jnp.tanh(mean_and_std(out)[0]))

    def neg_log_prob(self, out: Array, action: Array) -> Array:
        z = jnp.arctanh(INSIDE * self.box.to_unit(action))
        return normal_neg_log_prob(*mean_and_std(out), z) + jnp.sum(log_tanh_slope(z), axis=-1)

    def entropy(self, out: Array) -> Array:
        """With tanh's slope at the mean for its expectation, which has no closed form."""
        mean, std = mean_and_std(out)
        return normal_entropy(std) + jnp.sum(log_tanh_slope(mean), axis=-1)


@dataclasses.dataclass(frozen=True)
class MeanSquaredError(BoxHead):
    """u itself, A outputs, chosen without chance; its "-log p" is the squared error of u, a mean over components."""

    @property
    def size(self) -> int:
        return self.box.dim

    def sample(self, key: Array, out: Array) -> Array:
        del key
        return self.mode(out)

    def mode(self, out: Array) -> Array:
        return self.box.from_unit(out)

    def neg_log_prob(self, out: Array, action: Array) -> Array:
        return jnp.mean(jnp.square(out - self.box.to_unit(action)), axis=-1)

    def entropy(self, out: Array) -> Array:
        """None: nothing is left to chance."""
        return jnp.full(out.shape[:-1], -jnp.inf, jnp.float32)


BOX_HEADS: dict[str, type[BoxHead]] = {"gaussian": Gaussian, "squashed": Squashed, "mse": MeanSquaredError}


def head_of(num_actions: int, box: Box | None, name: str = "") -> ActionHead:
    """The head for K actions or for those of a ``box``, by default a Gaussian."""
    if box is None:
        require(not name, "action_head", name, "none: actions are numbered")
        return Categorical(num_actions)
    return BOX_HEADS[name or "gaussian"](box)


def mean_and_std(out: Array) -> tuple[Array, Array]:
    """Mean and standard deviation [..., A] of outputs [..., 2 A]: the second half through a softplus."""
    mean, raw = jnp.split(out, 2, axis=-1)
    return mean, LEAST_STD + jax.nn.softplus(raw)


def normal_neg_log_prob(mean: Array, std: Array, x: Array) -> Array:
    """-log N(x; mean, std^2) summed over components, [...] for [..., A]."""
    return jnp.sum(0.5 * jnp.square((x - mean) / std) + jnp.log(std) + 0.5 * math.log(2 * math.pi), axis=-1)


def normal_entropy(std: Array) -> Array:
    """Entropy of N(., std^2) summed over components, [...] for [..., A]."""
    return jnp.sum(jnp.log(std) + 0.5 * math.log(2 * math.pi * math.e), axis=-1)


def log_tanh_slope(z: Array) -> Array:
    """log(1 - tanh(z)^2), without loss at large z."""
    return 2 * (math.log(2) - z - jax.nn.softplus(-2 * z))
