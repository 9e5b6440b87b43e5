"""Two tokens a step: query, then transition (Lin et al. 2023)."""

import dataclasses

import jax.numpy as jnp

from icrl.core.registry import layouts
from icrl.core.types import Array, Transition
from icrl.layouts._features import SpecLayout


@layouts.register("pairs", paper="Lin et al. 2024 (two tokens a step); Son et al. 2025 (transition tokens)")
@dataclasses.dataclass(frozen=True)
class Pairs(SpecLayout):
    """Two tokens a step: the query (1, s_t, 0, 0, 0) that is acted upon, then the transition (0, s, a, s', r).

    Every step has its own query, so a cache serves although the observation changes. One slot marks queries.
    """

    num_prompt, num_before, num_after = 0, 1, 1
    token_names = ("query", "transition")

    @property
    def token_dim(self) -> int:
        return 1 + self._transition_dim

    def prompt(self, query: Array) -> Array:
        del query
        return jnp.zeros((0, self.token_dim), jnp.float32)

    def before(self, obs: Array, past: Transition) -> Array:
        del past
        features = self._obs(obs)
        return jnp.pad(features, (1, self._transition_dim - features.size)).at[0].set(1.0)[None]

    def after(self, transition: Transition) -> Array:
        return jnp.pad(self._transition(transition), (1, 0))[None]
