"""What contextual bandits on the unit sphere share: fresh features of every arm at every pull, one theta for all."""

import abc
import dataclasses

import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.threefry import normal
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._bandit import MAX_ARMS
from icrl.envs._fresh_contexts import FreshContexts

NODES = 2000  # of the quadrature behind ``optimal_return``


@struct.dataclass
class SphereTask(TaskParams):
    """The unknown parameter."""

    theta: Array = struct.field(default_factory=lambda: jnp.zeros(5))  # [d] float32


@dataclasses.dataclass(frozen=True)
class SphereFeatures(FreshContexts[SphereTask]):
    """x_a uniform on the unit sphere of R^d, anew for every arm and pull; theta / ``norm`` is drawn there once.

    The mean of arm a is ``link`` <theta, x_a>, which is increasing; the observation is the K x d features row by row.
    """

    num_arms: int = setting(10, low=1, high=MAX_ARMS, help="K, arms")
    dim: int = setting(5, low=2, high=256, help="d, features of an arm")

    @property
    @abc.abstractmethod
    def norm(self) -> float:
        """Length of theta."""

    @abc.abstractmethod
    def link(self, score: Array) -> Array:
        """The expected reward at <theta, x>, elementwise."""

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(type(self).__name__, self.num_arms, (self.num_arms * self.dim,), -1.0, 1.0, self.horizon)

    def sample_task(self, key: Array) -> SphereTask:
        theta = self.norm * _on_sphere(normal(key, (self.dim,)))
        return SphereTask(theta=theta, max_steps_in_episode=self.horizon)

    def draw_context(self, key: Array, params: SphereTask) -> Array:
        del params
        return _on_sphere(normal(key, (self.num_arms, self.dim)))

    def observe(self, params: SphereTask, context: Array) -> Array:
        del params
        return context.reshape(-1)

    def arm_means(self, params: SphereTask, context: Array) -> Array:
        return self.link(context @ params.theta)

    def optimal_return(self, params: SphereTask) -> Array:
        """T E link(|theta| u), u the largest of K first coordinates of points on the sphere; exact to 1e-6."""
        nodes, weights = _largest_coordinate(self.num_arms, self.dim)
        means = self.link(jnp.linalg.norm(params.theta) * jnp.asarray(nodes, jnp.float32))
        return jnp.sum(means * jnp.asarray(weights, jnp.float32)) * params.max_steps_in_episode


def _on_sphere(normal: Array) -> Array:
    """Vectors [..., d] stretched to length 1; the components are kept inside [-1, 1] against rounding."""
    return jnp.clip(normal / jnp.linalg.norm(normal, axis=-1, keepdims=True), -1.0, 1.0)


def _largest_coordinate(num_arms: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights [NODES] of its law: u = sin(phi) has a density proportional to cos(phi)^(d - 2) in phi."""
    phi = ((np.arange(NODES) + 0.5) / NODES - 0.5) * np.pi
    mass = np.cos(phi) ** (dim - 2)
    below = np.concatenate([[0.0], np.cumsum(mass / mass.sum())])
    return np.sin(phi), np.diff(below**num_arms)
