"""Tabular MDPs whose episodes can end before their time limit: some states are absorbing ends."""

import dataclasses

import jax.numpy as jnp

from icrl.core.types import Array, EnvSpec
from icrl.envs._tabular import TabularMDP, TabularState, TabularTask, begin, draw


@dataclasses.dataclass(frozen=True)
class EndingMDP(TabularMDP):
    """Entering a state that no action leaves and that pays nothing terminates the episode.

    Such a state is worth 0 in the tables themselves, so backward induction is exact as it is. The observation that
    comes with ``terminated`` is its number. ``num_states`` counts the ends.
    """

    @property
    def spec(self) -> EnvSpec:
        return dataclasses.replace(super().spec, ends_early=True)

    def is_end(self, params: TabularTask, position: Array) -> Array:
        stays = params.transition[position, :, position] == 1.0
        return jnp.all(stays & (params.reward[position] == 0.0))

    def random_state(self, key: Array, params: TabularTask) -> tuple[Array, TabularState]:
        """A state that is no end, uniformly, at the start of an episode."""
        states = jnp.arange(self.num_states, dtype=jnp.int32)
        stays = params.transition[states, :, states] == 1.0
        ends = jnp.all(stays & (params.reward == 0.0), axis=-1)
        return begin(draw(key, jnp.where(ends, 0.0, 1.0)))
