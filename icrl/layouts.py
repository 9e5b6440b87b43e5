"""How transitions become tokens. One class per layout, shared by objectives and agents."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.registry import layouts
from icrl.types import Array, EnvSpec, Layout, Transition


@layouts.register("query-first", paper="Lee et al. 2023, A.1")
@dataclasses.dataclass(frozen=True)
class QueryFirst(Layout):
    """One token a transition, (s, a one-hot, s', r), preceded by one query token (s_query, 0, 0, 0).

    Position 0 sees the query alone, position j the query and the first j transitions. With a query that stays the
    same all through the task (bandits), each new transition is one new token and a KV cache serves; with a query that
    changes at every step the whole context has to be read again.
    """

    spec: EnvSpec

    @property
    def token_dim(self) -> int:
        return 2 * self.spec.obs_dim + self.spec.num_actions + 1

    def encode_query(self, obs: Array) -> Array:
        return jnp.pad(obs.reshape(-1), (0, self.token_dim - self.spec.obs_dim))

    def encode(self, transition: Transition) -> Array:
        action = jax.nn.one_hot(transition.action, self.spec.num_actions)
        obs, next_obs = transition.obs.reshape(-1), transition.next_obs.reshape(-1)
        return jnp.concatenate([obs, action, next_obs, transition.reward[None]])
