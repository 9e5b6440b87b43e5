"""One token a transition, the query in front (Lee et al. 2023, A.1)."""

import dataclasses

import jax.numpy as jnp

from icrl.core.registry import layouts
from icrl.core.types import Array, Transition
from icrl.layouts._features import SpecLayout


@layouts.register("query-first", paper="Lee et al. 2023, A.1")
@dataclasses.dataclass(frozen=True)
class QueryFirst(SpecLayout):
    """One token a transition, (s, a one-hot, s', r), preceded by one query token (s_query, 0, 0, 0).

    Decision 0 sees the query alone, decision j the query and the first j transitions. With a query that stays the
    same all through the task (bandits), each new transition is one new token and a KV cache serves; with a query that
    changes at every step the whole context has to be read again.
    """

    num_prompt, num_before, num_after = 1, 0, 1
    token_names = ("query", "transition")

    @property
    def token_dim(self) -> int:
        return self._transition_dim

    def prompt(self, query: Array) -> Array:
        features = self._obs(query)
        return jnp.pad(features, (0, self.token_dim - features.size))[None]

    def before(self, obs: Array, past: Transition) -> Array:
        del obs, past
        return jnp.zeros((0, self.token_dim), jnp.float32)

    def after(self, transition: Transition) -> Array:
        return self._transition(transition)[None]
