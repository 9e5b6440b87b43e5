"""What agents for linear rewards r = <theta, x_a> + noise share: the normal equations and their whitened form."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np

from icrl.agents._arm_agent import MAX_ARMS, MAX_DIM
from icrl.core import struct
from icrl.core.errors import InputError
from icrl.core.fields import check_array, required
from icrl.core.types import Agent, Array, Environment, Transition


class LinearStats(NamedTuple):
    """Sufficient statistics of a linear regression without prior."""

    time: Array  # [] int32, transitions seen
    gram: Array  # [d, d] float32, sum of x x^T
    moment: Array  # [d] float32, sum of r x


@struct.dataclass
class FeatureAgent(Agent):
    """Base of agents that know the arms' features; subclasses say what they remember.

    The arms' features x_a are known and fixed (``features`` [K, d], read off ``LinearBandit-v0``), or, when
    ``features`` is None, shown at every step: the observation is the K x d matrix, row by row.
    """

    num_arms: int = required(low=1, high=MAX_ARMS, static=True, help="K, arms")
    dim: int = required(low=1, high=MAX_DIM, static=True, help="d, features of an arm")
    features: Array | None  # [K, d] or None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features is not None:
            check_array("features", self.features, (self.num_arms, self.dim))

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        features, dim = settings.get("features", env.features), env.dim
        if features is not None:
            dim = np.shape(features)[-1] if np.ndim(features) else 1  # what is no matrix is refused by its shape
        elif env.spec.obs_dim != env.num_actions * dim:
            raise InputError(f"features: {env.name} neither has nor shows any, and {cls.__name__} needs them")
        return cls(**{"num_arms": env.num_actions, "dim": dim, "features": features, **settings})

    def features_at(self, obs: Array) -> Array:
        """x_a of every arm, [K, d]."""
        return obs.reshape(self.num_arms, self.dim) if self.features is None else self.features


@struct.dataclass
class LinearAgent(FeatureAgent):
    """Base of those whose state is ``LinearStats``."""

    def init(self, key: Array) -> LinearStats:
        del key
        return LinearStats(jnp.int32(0), jnp.zeros((self.dim, self.dim), jnp.float32), jnp.zeros(self.dim, jnp.float32))

    def update(self, state: LinearStats, transition: Transition) -> LinearStats:
        pulled = jnp.arange(self.num_arms) == transition.action
        x = jnp.sum(jnp.where(pulled[:, None], self.features_at(transition.obs), 0.0), axis=0)
        return LinearStats(state.time + 1, state.gram + jnp.outer(x, x), state.moment + transition.reward * x)

    def whiten(self, state: LinearStats, obs: Array, ridge: Array | float) -> tuple[Array, Array]:
        """Features [d, K] and moment [d] multiplied by L^-1, where V = ridge I + gram = L L^T.

        In these coordinates everything the agents need is an inner product: with w_a = L^-1 x_a and u = L^-1 b,
        <V^-1 b, x_a> = <w_a, u>, the width ||x_a||_{V^-1} = ||w_a||, and theta ~ N(V^-1 b, s^2 V^-1) gives
        <theta, x_a> = <w_a, u + s z> with z ~ N(0, I).
        """
        matrix = ridge * jnp.eye(self.dim, dtype=jnp.float32) + state.gram
        whitened = eliminate(matrix, jnp.column_stack([state.moment, self.features_at(obs).T]), ridge)
        return whitened[:, 1:], whitened[:, 0]


def eliminate(matrix: Array, right: Array, least_pivot: Array | float) -> Array:
    """L^-1 right for a positive definite matrix = L L^T [d, d] and right [d, m]; [d, m].

    Cholesky by rows, unrolled over the static d: under ``vmap`` on CPU it is many times faster for small d than one
    LAPACK call per task. No pivot of ridge I + X^T X can be less than the ridge; rounding is held to that.
    """
    rest, rows = jnp.column_stack([matrix, right]), []
    for _ in range(matrix.shape[0]):
        root = jnp.sqrt(jnp.maximum(rest[0, 0], least_pivot))
        row, below = rest[0, 1:] / root, rest[1:, 0] / root
        rows.append(row[below.shape[0] :])
        rest = rest[1:, 1:] - jnp.outer(below, row)
    return jnp.stack(rows)
