"""RiverSwim: a long swim against the stream pays, and every slip carries back (Strehl and Littman 2008)."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from icrl.core.registry import environments
from icrl.core.scenes import rows
from icrl.core.types import Array
from icrl.envs._tabular import TabularMDP, TabularTask

LEFT, RIGHT = 0, 1
FORWARD, HOLD, BACK = 0.35, 0.6, 0.05  # outcomes of swimming right between the banks
HOLD_FIRST, HOLD_LAST = 0.4, 0.6  # at the first and the last state
SMALL, LARGE = 0.005, 1.0  # rewards of left in the first state and of right in the last


@environments.register("RiverSwim-v0", paper="Strehl, Littman 2008; Osband et al. 2013")
@dataclasses.dataclass(frozen=True)
class RiverSwim(TabularMDP):
    """Six states in a row; left always succeeds, right mostly holds against the stream. One task.

    In the form of Osband et al. 2013 (More Efficient Reinforcement Learning via Posterior Sampling, section 5) and
    their TabulaRL: rewards without noise, 0.005 for left in the first state and 1 for right in the last, start at the
    first, H = 20. Optimal return 3.397264 (H = 50: 16.072108, H = 100: 37.502947), by backward induction.
    """

    num_states: int = 6
    num_actions: int = dataclasses.field(default=2, init=False)  # LEFT and RIGHT
    horizon: int = 20
    noise_std: float = 0.0

    r_max = LARGE  # a bound on expected rewards that an agent may know

    @property
    def num_tasks(self) -> int:
        """There is but one."""
        return 1

    def task(self, index: Array) -> TabularTask:
        """The task, whatever ``index`` says."""
        del index
        return self.task_of(*(jnp.asarray(table) for table in _tables(self.num_states)))

    def places(self) -> np.ndarray:
        return rows(self.num_states, self.num_states)

    def sample_task(self, key: Array) -> TabularTask:
        """The one task; nothing is drawn."""
        del key
        return self.task(jnp.int32(0))


def _tables(num_states: int) -> tuple[np.ndarray, np.ndarray]:
    """P [S, 2, S] and r [S, 2], float32."""
    states, last = np.arange(num_states), num_states - 1
    transition = np.zeros((num_states, 2, num_states), np.float32)
    transition[states, LEFT, np.maximum(states - 1, 0)] = 1.0
    inner = states[1:-1]
    for move, probability in ((1, FORWARD), (0, HOLD), (-1, BACK)):
        transition[inner, RIGHT, inner + move] = probability
    transition[0, RIGHT, :2] = HOLD_FIRST, 1.0 - HOLD_FIRST
    transition[last, RIGHT, last - 1 :] = 1.0 - HOLD_LAST, HOLD_LAST
    reward = np.zeros((num_states, 2), np.float32)
    reward[0, LEFT], reward[last, RIGHT] = SMALL, LARGE
    return transition, reward
