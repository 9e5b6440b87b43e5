"""Three tokens a step: observation, action, reward (Laskin et al. 2022)."""

import dataclasses

import jax.numpy as jnp

from icrl.core.registry import layouts
from icrl.core.types import Array, Transition
from icrl.layouts._features import SpecLayout


@layouts.register("interleaved", paper="Laskin et al. 2022")
@dataclasses.dataclass(frozen=True)
class Interleaved(SpecLayout):
    """Three tokens a step, one a modality: s_t, then a_t, then r_t; each modality has slots of its own and a mark."""

    num_prompt, num_before, num_after = 0, 1, 2
    token_names = ("observation", "action", "reward")
    action_token = 0

    @property
    def token_dim(self) -> int:
        return 1 + self.obs_features + self.action_features + 1

    def prompt(self, query: Array) -> Array:
        del query
        return jnp.zeros((0, self.token_dim), jnp.float32)

    def before(self, obs: Array, past: Transition) -> Array:
        del past
        features = self._obs(obs)
        return jnp.pad(features, (1, self.token_dim - 1 - features.size)).at[0].set(1.0)[None]

    def after(self, transition: Transition) -> Array:
        action = jnp.pad(self._action(transition.action), (1 + self.obs_features, 1))
        reward = jnp.zeros(self.token_dim, jnp.float32).at[-1].set(transition.reward)
        return jnp.stack([action, reward])
