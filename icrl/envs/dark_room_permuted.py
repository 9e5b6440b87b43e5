"""Dark Room (Permuted): the goal is known, what the actions do is not (Lee et al. 2023, appendix B.2)."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np

from icrl.core.registry import environments
from icrl.core.types import Array
from icrl.envs._grid_room import NUM_MOVES
from icrl.envs.dark_room import DarkRoom, DarkRoomTask

ORDERS = np.array(list(itertools.permutations(range(NUM_MOVES))), np.int32)  # [120, 5], lexicographic


@environments.register("DarkRoomPermuted-v0", paper="Lee et al. 2023")
@dataclasses.dataclass(frozen=True)
class DarkRoomPermuted(DarkRoom):
    """From corner (0, 0) to the opposite one; in task i action a makes the i-th permutation's a-th move; 120 tasks.

    9 x 9 with H = 50 as in Son et al. 2025 (DICP), optimum 35; ``size=10, horizon=100`` is the room of Lee et al.
    2023 (DPT), optimum 83.
    """

    horizon: int = 50
    start: str = "corner"

    @property
    def num_tasks(self) -> int:
        return len(ORDERS)

    def task(self, index: Array) -> DarkRoomTask:
        far_corner = jnp.full(2, self.size - 1, jnp.int32)
        return DarkRoomTask(goal=far_corner, action_order=jnp.asarray(ORDERS)[index], max_steps_in_episode=self.horizon)
