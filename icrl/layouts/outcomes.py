"""Two tokens a step, of which one asks what to do and the other what will come of it (after Son et al. 2025)."""

import dataclasses

import jax.numpy as jnp

from icrl.core.registry import layouts
from icrl.core.types import Array, Transition
from icrl.layouts._features import SpecLayout


@layouts.register(
    "outcomes", paper="Son et al. 2025 (an action token behind the query, which the dynamics are read off)"
)
@dataclasses.dataclass(frozen=True)
class Outcomes(SpecLayout):
    """Two tokens a step: (s_t, 0, the transition before), which is acted upon, then (s_t, a_t, 0).

    The first token has the query and the transition that led to it, as two tokens of ``pairs`` in one; with the second
    a step costs as much as there. The model says what an action does where it has just read it, in front of anything
    that tells. Departure from the paper: there transitions have tokens of their own, and a query and an action token
    stand behind the last of them alone, so that a window has one label; here every prefix of it has one.

    One slot says that a context begins: there is no transition before, zeros stand for it.
    """

    num_prompt, num_before, num_after = 0, 1, 1
    token_names = ("query", "action")
    tells_past = True
    action_token = 0

    @property
    def token_dim(self) -> int:
        return self.obs_features + self.action_features + 1 + self._transition_dim

    def prompt(self, query: Array) -> Array:
        del query
        return jnp.zeros((0, self.token_dim), jnp.float32)

    def before(self, obs: Array, past: Transition) -> Array:
        is_first = self.head.is_none(past.action).astype(jnp.float32)
        told = self._transition(past) * (1 - is_first)
        return jnp.concatenate([self._obs(obs), jnp.zeros(self.action_features), is_first[None], told])[None]

    def after(self, transition: Transition) -> Array:
        asked = jnp.concatenate([self._obs(transition.obs), self._action(transition.action)])
        return jnp.pad(asked, (0, 1 + self._transition_dim))[None]
