"""LinUCB with one regression for each arm (Li, Chu, Langford, Schapire 2010, A Contextual-Bandit Approach, alg. 1)."""

from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from icrl.agents._grids import each
from icrl.agents._linear_agent import LinearAgent, LinearStats, eliminate
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Environment, Grid, Transition


@agents.register("linucb-disjoint", paper="Li et al. 2010")
@struct.dataclass
class DisjointLinUCB(LinearAgent):
    """argmax <theta_a, x_a> + alpha ||x_a||_{A_a^-1} with A_a = I + sum x_a x_a^T, b_a = sum r x_a over pulls of arm a.

    Where an environment neither has nor shows features of its arms, all arms have the observation as x (the user's
    context of Li et al.), so that it fits everywhere. alpha = 1 + sqrt(ln(2 / delta) / 2) in their analysis: 2.36 for
    delta = 0.05, the default. ``LinearStats`` here has gram [K, d, d] and moment [K, d].
    """

    alpha: float = setting(2.36, low=0.0, help="scale of the bonus, reward units")

    grid: ClassVar[Grid] = each("alpha", 0.1, 0.25, 0.5, 1.0)

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        shows = env.spec.obs_dim == env.num_actions * env.dim
        if shows or settings.get("features", env.features) is not None:
            return super().for_env(env, **settings)
        return cls(**{"num_arms": env.num_actions, "dim": env.spec.obs_dim, "features": None, **settings})

    def init(self, key: Array) -> LinearStats:
        del key
        zeros = jnp.zeros((self.num_arms, self.dim), jnp.float32)
        return LinearStats(jnp.int32(0), jnp.zeros((*zeros.shape, self.dim), jnp.float32), zeros)

    def features_at(self, obs: Array) -> Array:
        """x_a of every arm, [K, d]."""
        if self.features is None and obs.size == self.dim:
            return jnp.broadcast_to(obs.reshape(1, self.dim), (self.num_arms, self.dim))
        return super().features_at(obs)

    def update(self, state: LinearStats, transition: Transition) -> LinearStats:
        pulled = (jnp.arange(self.num_arms) == transition.action)[:, None]
        x = jnp.where(pulled, self.features_at(transition.obs), 0.0)  # [K, d]
        gram = state.gram + x[:, :, None] * x[:, None, :]
        return LinearStats(state.time + 1, gram, state.moment + transition.reward * x)

    def index(self, state: LinearStats, obs: Array, alpha: Array | float) -> Array:
        """The optimistic value of every arm, [K]."""
        matrices = jnp.eye(self.dim, dtype=jnp.float32)[None] + state.gram
        columns = jnp.stack([state.moment, self.features_at(obs)], axis=-1)  # [K, d, 2]
        moment, x = jnp.moveaxis(jax.vmap(eliminate, in_axes=(0, 0, None))(matrices, columns, 1.0), -1, 0)
        return jnp.sum(moment * x, axis=-1) + alpha * jnp.sqrt(jnp.sum(jnp.square(x), axis=-1))

    def act(self, key: Array, state: LinearStats, obs: Array) -> Array:
        del key
        return jnp.argmax(self.index(state, obs, self.alpha)).astype(jnp.int32)

    def act_greedy(self, key: Array, state: LinearStats, obs: Array) -> Array:
        """Without a bonus; the first arm on ties."""
        del key
        return jnp.argmax(self.index(state, obs, 0.0)).astype(jnp.int32)
