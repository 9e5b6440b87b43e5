"""Contextual bandit whose reward probabilities are a random two-layer network of the context."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import normal
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._bandit import MAX_ARMS
from icrl.envs._fresh_contexts import FreshContexts

PROBES = 256  # contexts behind ``optimal_return``


@struct.dataclass
class RandomMLPTask(TaskParams):
    """The weights of one network."""

    hidden: Array = struct.field(default_factory=lambda: jnp.zeros((32, 8), jnp.float32))  # W [m, d] float32
    output: Array = struct.field(default_factory=lambda: jnp.zeros((5, 32), jnp.float32))  # V [K, m] float32


@environments.register("RandomMLPBandit-v0", paper="after Zhou et al. 2020")
@dataclasses.dataclass(frozen=True)
class RandomMLPBandit(FreshContexts[RandomMLPTask]):
    """P(reward 1 | x, a) = sigmoid(logit_std f_a(x)), f(x) = V relu(W x), x uniform on the unit sphere of R^d.

    W_ij ~ N(0, 1) and V_ai ~ N(0, 2/m), so that f_a(x) has mean 0 and variance 1 over tasks. The worlds of Zhou, Li,
    Gu 2020 (Neural Contextual Bandits with UCB-based Exploration, section 7.1) are fixed nonlinear functions with
    Gaussian noise; here the function is another one in every task, and rewards are in {0, 1}, as the losses of the KL
    learners must be in [0, 1].
    """

    num_arms: int = setting(5, low=1, high=MAX_ARMS, help="K, arms")
    dim: int = setting(8, low=1, high=4096, help="d, scalars of a context")
    hidden: int = setting(32, low=1, high=4096, help="m, hidden units")
    logit_std: float = setting(3.0, low=0.0, help="of the log-odds of a reward, over tasks")

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(type(self).__name__, self.num_arms, (self.dim,), -1.0, 1.0, self.horizon)

    def sample_task(self, key: Array) -> RandomMLPTask:
        key_hidden, key_output = jax.random.split(key)
        hidden = normal(key_hidden, (self.hidden, self.dim))
        output = normal(key_output, (self.num_arms, self.hidden)) * jnp.sqrt(jnp.float32(2.0 / self.hidden))
        return RandomMLPTask(hidden=hidden, output=output, max_steps_in_episode=self.horizon)

    def draw_context(self, key: Array, params: RandomMLPTask) -> Array:
        del params
        return _on_sphere(normal(key, (self.dim,)))

    def observe(self, params: RandomMLPTask, context: Array) -> Array:
        del params
        return context

    def arm_means(self, params: RandomMLPTask, context: Array) -> Array:
        return jax.nn.sigmoid(self.logit_std * (params.output @ jax.nn.relu(params.hidden @ context)))

    def optimal_return(self, params: RandomMLPTask) -> Array:
        """T E_x max_a mu_a(x), the expectation over 256 fixed contexts: unbiased over tasks, not exact in each.

        The prior does not change when R^d is turned, so every context is as good as a random one.
        """
        probes = _on_sphere(normal(jax.random.key(0), (PROBES, self.dim)))
        means = jax.vmap(self.arm_means, in_axes=(None, 0))(params, probes)
        return jnp.mean(jnp.max(means, axis=1)) * params.max_steps_in_episode


def _on_sphere(normal: Array) -> Array:
    """Vectors [..., d] stretched to length 1; the components are kept inside [-1, 1] against rounding."""
    return jnp.clip(normal / jnp.linalg.norm(normal, axis=-1, keepdims=True), -1.0, 1.0)
