"""Tabular MDPs whose episodes can end before their time limit: some states are absorbing ends."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core.types import Array, EnvSpec
from icrl.envs._tabular import TabularMDP, TabularState, TabularTask, begin, draw


@dataclasses.dataclass(frozen=True)
class EndingMDP(TabularMDP):
    """Entering a state that no action leaves and that pays nothing terminates the episode.

    Such a state is worth 0 in the tables themselves, so backward induction is exact as it is. The observation that
    comes with ``terminated`` is its number. ``num_states`` counts the ends.

    Nothing is lost by a detour that still arrives in time, so returns and regrets do not tell it; among actions that
    are equally good, ``optimal_action`` takes one that would still be so with fewer steps left: the shortest way.
    """

    @property
    def spec(self) -> EnvSpec:
        return dataclasses.replace(super().spec, ends_early=True)

    def is_end(self, params: TabularTask, position: Array) -> Array:
        stays = params.transition[position, :, position] == 1.0
        return jnp.all(stays & (params.reward[position] == 0.0))

    def optimal_action(self, params: TabularTask, state: TabularState) -> Array:
        """Of the actions with the largest Q* at this step the one that is worth most at all later steps together."""
        q = params.q[:, state.position]
        now, steps = q[state.time], jnp.arange(self.horizon)
        later = jnp.sum(q, axis=0, where=(steps > state.time)[:, None])
        return jnp.argmax(jnp.where(now == jnp.max(now), later, -jnp.inf)).astype(jnp.int32)

    def random_state(self, key: Array, params: TabularTask) -> tuple[Array, TabularState]:
        """A state that is no end, uniformly, at the start of an episode."""
        ends = jax.vmap(self.is_end, in_axes=(None, 0))(params, jnp.arange(self.num_states, dtype=jnp.int32))
        return begin(draw(key, jnp.where(ends, 0.0, 1.0)))
