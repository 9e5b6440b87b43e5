"""How transitions become tokens. One class per layout, shared by objectives and agents.

A layout says which tokens come before anything is known (``prompt``), which are read just before an action
(``before``) and which once its outcome is known (``after``); a sequence is prompt, before, after, before, after, ...
and the action of a step is read off the last token that precedes it. Grid observations (``EnvSpec.obs_nvec``) enter
one-hot, coordinate by coordinate; real ones as they are.
"""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.registry import layouts
from icrl.types import Array, EnvSpec, Layout, Transition


@dataclasses.dataclass(frozen=True)
class _SpecLayout(Layout):
    """What the layouts share: the features of one observation, action and reward, each in its own slots."""

    spec: EnvSpec

    @property
    def num_actions(self) -> int:  # type: ignore[override]
        return self.spec.num_actions

    @property
    def obs_shape(self) -> tuple[int, ...]:  # type: ignore[override]
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
        return jnp.concatenate([jax.nn.one_hot(number, count) for number, count in numbers])

    def _action(self, action: Array) -> Array:
        return jax.nn.one_hot(action, self.spec.num_actions)

    def _transition(self, transition: Transition) -> Array:
        """(s, a one-hot, s', r)."""
        parts = self._obs(transition.obs), self._action(transition.action), self._obs(transition.next_obs)
        return jnp.concatenate([*parts, transition.reward[None]])

    @property
    def _transition_dim(self) -> int:
        return 2 * self.obs_features + self.spec.num_actions + 1


@layouts.register("query-first", paper="Lee et al. 2023, A.1")
@dataclasses.dataclass(frozen=True)
class QueryFirst(_SpecLayout):
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

    def before(self, obs: Array) -> Array:
        del obs
        return jnp.zeros((0, self.token_dim))

    def after(self, transition: Transition) -> Array:
        return self._transition(transition)[None]


@layouts.register("pairs", paper="Lin et al. 2024 (two tokens a step); Son et al. 2025 (transition tokens)")
@dataclasses.dataclass(frozen=True)
class Pairs(_SpecLayout):
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
        return jnp.zeros((0, self.token_dim))

    def before(self, obs: Array) -> Array:
        features = self._obs(obs)
        return jnp.pad(features, (1, self._transition_dim - features.size)).at[0].set(1.0)[None]

    def after(self, transition: Transition) -> Array:
        return jnp.pad(self._transition(transition), (1, 0))[None]


@layouts.register("interleaved", paper="Laskin et al. 2022")
@dataclasses.dataclass(frozen=True)
class Interleaved(_SpecLayout):
    """Three tokens a step, one a modality: s_t, then a_t, then r_t; each modality has slots of its own and a mark."""

    num_prompt, num_before, num_after = 0, 1, 2
    token_names = ("observation", "action", "reward")

    @property
    def token_dim(self) -> int:
        return 1 + self.obs_features + self.spec.num_actions + 1

    def prompt(self, query: Array) -> Array:
        del query
        return jnp.zeros((0, self.token_dim))

    def before(self, obs: Array) -> Array:
        features = self._obs(obs)
        return jnp.pad(features, (1, self.token_dim - 1 - features.size)).at[0].set(1.0)[None]

    def after(self, transition: Transition) -> Array:
        action = jnp.pad(self._action(transition.action), (1 + self.obs_features, 1))
        reward = jnp.zeros(self.token_dim).at[-1].set(transition.reward)
        return jnp.stack([action, reward])
