"""Random tabular MDPs, many episodes in each (Duan et al. 2016, RL^2: Fast Reinforcement Learning via Slow RL)."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.types import Array
from icrl.envs._tabular import TabularMDP, TabularTask

PLAUSIBLE = 3.0  # standard deviations above the mean; one of 50 draws is higher in 7 % of tasks


@environments.register("RandomMDP-v0", paper="Duan et al. 2016")
@dataclasses.dataclass(frozen=True)
class RandomMDP(TabularMDP):
    """P(. | s, a) ~ Dirichlet(1), expected rewards N(1, 1), noise N(0, 1); S = 10, K = 5, H = 10, from state 0.

    The setting of Duan et al. 2016, section 3.2 and table 2. They do not say where an episode begins; since states are
    exchangeable under the prior, state 0 is no loss of generality as long as it is fixed within a task.
    """

    concentration: float = setting(1.0, low=0.0, open_low=True, help="of the Dirichlet prior of every row")
    reward_mean: float = setting(1.0, low=-1e6, high=1e6, help="of the normal prior of mean rewards")
    reward_std: float = setting(1.0, low=0.0, help="of the normal prior of mean rewards")

    @property
    def r_max(self) -> float:
        """A bound that an agent may put on expected rewards, which have none: exceeded in 7 % of tasks."""
        return self.reward_mean + PLAUSIBLE * self.reward_std

    def sample_task(self, key: Array) -> TabularTask:
        key_transition, key_reward = jax.random.split(key)
        table = (self.num_states, self.num_actions)
        prior = jnp.full(self.num_states, self.concentration, jnp.float32)
        transition = jax.random.dirichlet(key_transition, prior, table, jnp.float32)
        reward = self.reward_mean + self.reward_std * jax.random.normal(key_reward, table, jnp.float32)
        return self.task_of(transition, reward)
