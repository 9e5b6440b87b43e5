"""One token a step: what is seen, and what the step before did (Duan et al. 2016)."""

import dataclasses

import jax.numpy as jnp

from icrl.core.registry import layouts
from icrl.core.types import Array, Transition
from icrl.layouts._features import SpecLayout


@layouts.register("steps", paper="Duan et al. 2016; Wang et al. 2016; Lu et al. 2023 (first-step flags)")
@dataclasses.dataclass(frozen=True)
class Steps(SpecLayout):
    """One token a step: (s_t, a_{t-1} one-hot, r_{t-1}, whether t begins an episode, whether t begins the context).

    Half as long as ``pairs``. Where a context begins there is no action and no reward before: zeros. The last state of
    an episode is not told, its successor s_t is that of the next episode.
    """

    num_prompt, num_before, num_after = 0, 1, 0
    token_names = ("step",)
    tells_past = True

    @property
    def token_dim(self) -> int:
        return self.obs_features + self.action_features + 3

    def prompt(self, query: Array) -> Array:
        del query
        return jnp.zeros((0, self.token_dim), jnp.float32)

    def before(self, obs: Array, past: Transition) -> Array:
        is_first = self.head.is_none(past.action)
        starts = is_first | past.terminated | past.truncated
        told = [past.reward, starts.astype(jnp.float32), is_first.astype(jnp.float32)]
        return jnp.concatenate([self._obs(obs), self._action(past.action), jnp.stack(told)])[None]

    def after(self, transition: Transition) -> Array:
        del transition
        return jnp.zeros((0, self.token_dim), jnp.float32)
