"""Deep sea: a dive in which only N right moves in a row pay, and each of them costs (Osband et al. 2019)."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import rows
from icrl.core.types import Array
from icrl.envs._tabular import MAX_STATES, TabularMDP, TabularTask

COST = 0.01  # of N moves to the right together


@environments.register("DeepSea-v0", paper="Osband et al. 2019")
@dataclasses.dataclass(frozen=True)
class DeepSea(TabularMDP):
    """N x N cells, one row deeper at every step, N = H steps; a task says in each cell which action goes right.

    In the form of bsuite (Osband et al. 2019, Behaviour Suite for Reinforcement Learning): a diver begins at the top
    left, the two actions go left and right (stopped by the walls), right costs 0.01 / N, and right in the last column,
    which only N - 1 moves to the right reach, pays 1: the optimum is 0.99, and a policy that knows nothing finds it
    once in 2^N episodes. State = row N + column; what lies below the last row is the start of the next dive.

    With ``slips`` a move to the right fails (goes straight down) with probability 1 / N, and ``noise_std`` is the noise
    of rewards at the two ends of the last row: bsuite's stochastic form. Its optimum is q^(N-1) - 0.01 (1 - q^N)
    with q = 1 - 1/N: right until the first slip, then left.

    Departures: bsuite fixes which action goes right by a seed, here it is the task; N is at most 22, not 50, because
    the table of transitions is dense.
    """

    num_states: int = dataclasses.field(default=100, init=False)  # N^2
    num_actions: int = dataclasses.field(default=2, init=False)  # left and right, in an order of each cell's own
    horizon: int = setting(10, low=2, high=math.isqrt(MAX_STATES), help="N, steps of an episode, rows and columns")
    noise_std: float = setting(0.0, low=0.0, help="standard deviation of the reward noise, at the ends of the last row")
    slips: bool = setting(False, help="whether moves to the right may fail")

    r_max = 1.0  # a bound on expected rewards that an agent may know

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_states", self.horizon**2)  # the way of a frozen dataclass to derive a field

    def sample_task(self, key: Array) -> TabularTask:
        return self.task_where(jax.random.bernoulli(key, jnp.float32(0.5), (self.num_states,)).astype(jnp.int32))

    def task_where(self, right: Array) -> TabularTask:
        """The task in which action ``right`` [N^2] int32 goes right."""
        transition, reward = (jnp.asarray(table) for table in _tables(self.horizon, self.slips))
        swapped = right == 0  # the tables have left first
        return self.task_of(
            jnp.where(swapped[:, None, None], transition[:, ::-1], transition),
            jnp.where(swapped[:, None], reward[:, ::-1], reward),
        )

    def places(self) -> np.ndarray:
        return rows(self.num_states, self.horizon)

    def noise_at(self, position: Array) -> Array:
        row, column = position // self.horizon, position % self.horizon
        last = self.horizon - 1
        return jnp.where((row == last) & ((column == 0) | (column == last)), jnp.float32(self.noise_std), 0.0)


@environments.register("DeepSeaStochastic-v0", paper="Osband et al. 2019")
@dataclasses.dataclass(frozen=True)
class DeepSeaStochastic(DeepSea):
    """The stochastic form of bsuite: moves to the right fail once in N, noise N(0, 1) at both ends."""

    noise_std: float = 1.0
    slips: bool = True


def _tables(size: int, slips: bool) -> tuple[np.ndarray, np.ndarray]:
    """P [N^2, 2, N^2] and r [N^2, 2] with left first, float32."""
    states, last = np.arange(size**2), size - 1
    row, column = np.divmod(states, size)
    below = np.where(row == last, 0, (row + 1) * size)  # the first cell of the next row
    landing = np.where(row == last, 0, 1)[:, None] * np.stack(
        [np.maximum(column - 1, 0), np.minimum(column + 1, last)], 1
    )
    transition = np.zeros((size**2, 2, size**2), np.float32)
    transition[states, 0, below + landing[:, 0]] = 1.0
    slip = np.float32(1.0 / size if slips else 0.0)
    transition[states, 1, below + landing[:, 1]] += 1.0 - slip
    transition[states, 1, below + np.where(row == last, 0, column)] += slip  # the same cell at the right wall
    reward = np.zeros((size**2, 2), np.float32)
    reward[:, 1] = (column == last) - COST / size
    return transition, reward
