"""The chain: patience is paid at its end, and any step back is paid at once (Strens 2000; Dearden et al. 1998)."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import rows
from icrl.core.types import Array
from icrl.envs._tabular import TabularMDP, TabularTask

FORWARD, BACK = 0, 1
SMALL, LARGE = 2.0, 10.0  # rewards of going back, and of forward at the end


@environments.register("Chain-v0", paper="Strens 2000")
@dataclasses.dataclass(frozen=True)
class Chain(TabularMDP):
    """Five states in a row: forward pays nothing but 10 at the last state, back pays 2 and returns to the first.

    With probability ``slip`` an action has the other one's effect. One task. Strens 2000 (A Bayesian Framework for
    Reinforcement Learning, section 5) lets an agent live through 1 000 steps without episodes; the 3677 that is cited
    as their optimum is the long run's 3.6768 a step, and what can be earned from the start is 3665.84.

    Departures: episodes of H steps; the reward paid is the expected one of the action, not that of its effect.
    """

    num_states: int = 5
    num_actions: int = dataclasses.field(default=2, init=False)  # FORWARD and BACK
    horizon: int = 20
    noise_std: float = 0.0
    slip: float = setting(0.2, low=0.0, high=1.0, help="probability that an action has the other one's effect")

    r_max = LARGE  # a bound on expected rewards that an agent may know

    @property
    def num_tasks(self) -> int:
        """There is but one."""
        return 1

    def task(self, index: Array) -> TabularTask:
        """The task, whatever ``index`` says."""
        del index
        return self.task_of(*(jnp.asarray(table) for table in _tables(self.num_states, self.slip)))

    def places(self) -> np.ndarray:
        return rows(self.num_states, self.num_states)

    def sample_task(self, key: Array) -> TabularTask:
        """The one task; nothing is drawn."""
        del key
        return self.task(jnp.int32(0))


def _tables(num_states: int, slip: float) -> tuple[np.ndarray, np.ndarray]:
    """P [S, 2, S] and r [S, 2], float32."""
    states, last = np.arange(num_states), num_states - 1
    effect, paid = np.zeros((num_states, 2, num_states)), np.zeros((num_states, 2))
    effect[states, FORWARD, np.minimum(states + 1, last)] = 1.0
    effect[:, BACK, 0] = 1.0
    paid[last, FORWARD], paid[:, BACK] = LARGE, SMALL
    transition, reward = ((1.0 - slip) * table + slip * table[:, ::-1] for table in (effect, paid))
    return transition.astype(np.float32), reward.astype(np.float32)
