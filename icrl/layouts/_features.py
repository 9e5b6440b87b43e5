"""What all layouts share: the features of one observation, action and reward.

Grid observations (``EnvSpec.obs_nvec``) enter one-hot, coordinate by coordinate; real ones as they are. Numbered
actions enter one-hot, those in a box as what the environment did: clipped, and scaled to [-1, 1].
"""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core.action_heads import ActionHead, head_of
from icrl.core.model_types import Layout
from icrl.core.types import Array, EnvSpec, Transition


@dataclasses.dataclass(frozen=True)
class SpecLayout(Layout):
    """What the layouts share: the features of one observation, action and reward, each in its own slots."""

    spec: EnvSpec
    action_head: str = ""  # of actions in a box: one of ``BOX_HEADS``, "": as fits

    @property
    def num_actions(self) -> int:
        return self.spec.num_actions

    @property
    def head(self) -> ActionHead:
        return head_of(self.spec.num_actions, self.spec.action_box, self.action_head)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return self.spec.obs_shape

    @property
    def obs_features(self) -> int:
        """Slots of one observation."""
        return sum(self.spec.obs_nvec) or self.spec.obs_dim

    def _obs(self, obs: Array) -> Array:
        flat = obs.reshape(-1)
        if not self.spec.obs_nvec:
            return flat
        numbers = zip(flat.astype(jnp.int32), self.spec.obs_nvec, strict=True)
        return jnp.concatenate([jax.nn.one_hot(number, count, dtype=jnp.float32) for number, count in numbers])

    @property
    def action_features(self) -> int:
        """Slots of one action, K or A."""
        return self.spec.num_actions or self.spec.action_shape[0]

    def _action(self, action: Array) -> Array:
        """Zeros for no action."""
        if self.spec.action_box is not None:
            return jnp.where(self.head.is_none(action), 0.0, self.spec.action_box.to_unit(action))
        return jax.nn.one_hot(action, self.spec.num_actions, dtype=jnp.float32)

    def _transition(self, transition: Transition) -> Array:
        """(s, a one-hot, s', r)."""
        parts = self._obs(transition.obs), self._action(transition.action), self._obs(transition.next_obs)
        return jnp.concatenate([*parts, transition.reward[None]])

    @property
    def _transition_dim(self) -> int:
        return 2 * self.obs_features + self.action_features + 1
