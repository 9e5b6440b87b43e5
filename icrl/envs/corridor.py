"""A corridor in which some cells have their actions switched; its far end ends the episode (Sutton and Barto 2018)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import rows
from icrl.core.types import Array
from icrl.envs._ending import EndingMDP
from icrl.envs._tabular import TabularTask


@environments.register("Corridor-v0", paper="after Sutton, Barto 2018, example 13.1")
@dataclasses.dataclass(frozen=True)
class Corridor(EndingMDP):
    """``length`` = N cells in a row; one action goes a cell on, the other a cell back, and a task says which in each.

    Reward 1 for going on from the last cell, which terminates the episode, nothing else. Task i goes on in cell c by
    action (i >> c) & 1. V* is 1 if N <= H, else 0. State N is the end.

    Departures: in the book's corridor (three cells, switched in the second) all cells look alike and each step costs 1.
    """

    num_states: int = dataclasses.field(default=7, init=False)  # N + 1
    num_actions: int = dataclasses.field(default=2, init=False)
    horizon: int = 20
    noise_std: float = 0.0
    length: int = setting(6, low=1, high=16, help="N, cells")

    r_max = 1.0  # a bound on expected rewards that an agent may know

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_states", self.length + 1)  # the way of a frozen dataclass to derive a field

    @property
    def num_tasks(self) -> int:
        """2^N."""
        return 2**self.length

    def task(self, index: Array) -> TabularTask:
        on = (index >> jnp.arange(self.length)) & 1
        moves, last = jnp.asarray(_tables(self.length)), self.length - 1
        inside = jnp.where(on[:, None, None] == 1, moves, moves[:, ::-1])
        end = jnp.zeros((1, 2, self.num_states)).at[..., -1].set(1.0)
        reward = jnp.zeros((self.num_states, 2)).at[last].set(inside[last, :, -1])
        return self.task_of(jnp.concatenate([inside, end]), reward)

    def sample_task(self, key: Array) -> TabularTask:
        return self.task(jax.random.randint(key, (), 0, self.num_tasks, jnp.int32))

    def places(self) -> np.ndarray:
        return rows(self.num_states, self.num_states)


def _tables(length: int) -> np.ndarray:
    """P [N, 2, N + 1] float32 with back first."""
    cells = np.arange(length)
    moves = np.zeros((length, 2, length + 1), np.float32)
    moves[cells, 0, np.maximum(cells - 1, 0)] = 1.0
    moves[cells, 1, cells + 1] = 1.0
    return moves
