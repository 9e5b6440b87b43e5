"""Frozen lake: from one corner to the other over ice with holes, which end the episode as the goal does."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import Episode, Graph, rows
from icrl.core.threefry import split
from icrl.core.types import Array
from icrl.envs._ending import EndingMDP
from icrl.envs._tabular import MAX_STATES, TabularState, TabularTask

MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up, each in (row, column)


@environments.register("FrozenLake-v0", paper="Brockman et al. 2016; Towers et al. 2024")
@dataclasses.dataclass(frozen=True)
class FrozenLake(EndingMDP):
    """``size`` x ``size`` cells; reward 1 for entering the goal, nothing else; goal and holes terminate the episode.

    In the form of gymnasium's FrozenLake: start at the top left, goal at the bottom right, state = row ``size`` +
    column, walls stop. With ``slippery`` the agent goes where it wants or to either side of that, with probability 1/3
    each. A task is a map.

    Departures: a map is drawn by first drawing a path (a random order of the moves right and down), then making a hole
    of each other cell with probability ``hole_prob``; gymnasium draws all cells and rejects maps without a path. 20
    steps, not 100, and not slippery by default: V* at the start is then 1 in every map of 2 ``size`` - 2 <= H steps.
    """

    num_states: int = dataclasses.field(default=16, init=False)  # size^2
    num_actions: int = dataclasses.field(default=4, init=False)  # left, down, right, up
    horizon: int = 20
    noise_std: float = 0.0
    size: int = setting(4, low=2, high=math.isqrt(MAX_STATES), help="cells along each side")
    hole_prob: float = setting(0.2, low=0.0, high=1.0, help="probability of a hole in a cell beside the drawn path")
    slippery: bool = setting(False, help="whether moves go astray, to either side with probability 1/3 each")

    r_max = 1.0  # a bound on expected rewards that an agent may know

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_states", self.size**2)  # the way of a frozen dataclass to derive a field

    def sample_task(self, key: Array) -> TabularTask:
        key_path, key_holes = split(key)
        holes = jax.random.bernoulli(key_holes, jnp.float32(self.hole_prob), (self.num_states,))
        return self.task_where(holes & ~self._on_path(key_path))

    def task_where(self, holes: Array) -> TabularTask:
        """The task whose holes are ``holes`` [size^2] bool; start and goal are none."""
        goal, states = self.num_states - 1, jnp.arange(self.num_states)
        ends = (holes & (states != 0)) | (states == goal)
        moved = jnp.asarray(_tables(self.size, self.slippery))
        transition = jnp.where(ends[:, None, None], jnp.eye(self.num_states)[:, None], moved)
        return self.task_of(transition, jnp.where(ends[:, None], 0.0, transition[:, :, goal]))

    def _on_path(self, key: Array) -> Array:
        """The cells of a random path from start to goal, [size^2] bool."""
        steps = jnp.where(jnp.arange(2 * self.size - 2) < self.size - 1, 1, self.size)  # right and down
        cells = jnp.cumsum(jax.random.permutation(key, steps))
        return jnp.zeros(self.num_states, bool).at[0].set(True).at[cells].set(True)

    def places(self) -> np.ndarray:
        return rows(self.num_states, self.size)

    def scene(self, params: TabularTask, state: TabularState, episode: Episode) -> Graph:
        """As of any tabular MDP; holes are called H, the goal G."""
        ends = [bool(self.is_end(params, jnp.int32(cell))) for cell in range(self.num_states - 1)]
        labels = (*("H" if ended else str(cell) for cell, ended in enumerate(ends)), "G")
        return dataclasses.replace(super().scene(params, state, episode), labels=labels)


def _tables(size: int, slippery: bool) -> np.ndarray:
    """P [size^2, 4, size^2] float32 of ice without holes."""
    row, column = np.divmod(np.arange(size**2), size)
    moved = np.zeros((size**2, len(MOVES), size**2), np.float32)
    for action, (down, right) in enumerate(MOVES):
        there = np.clip(row + down, 0, size - 1) * size + np.clip(column + right, 0, size - 1)
        moved[np.arange(size**2), action, there] = 1.0
    return (np.roll(moved, 1, axis=1) + moved + np.roll(moved, -1, axis=1)) / np.float32(3) if slippery else moved
