"""Exact posterior sampling when the task is one of finitely many Bernoulli bandits: what memorising a pool would do."""

from typing import Any, Self

import jax
import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent
from icrl.core import struct
from icrl.core.errors import InputError
from icrl.core.fields import check_array
from icrl.core.registry import agents
from icrl.core.threefry import categorical
from icrl.core.types import Array, Environment

TINY = 1e-6  # a probability of 0 or 1 in the pool is moved by so much, so that no likelihood is zero


@agents.register("posterior-pool", paper="Raventos et al. 2023")
@struct.dataclass
class PosteriorPool(ArmStatsAgent):
    """Draws one of the D tasks by its posterior probability, uniform before any pull, and plays its best arm.

    The memorising solution of task diversity (Raventos et al. 2023, where it is called dMMSE), for bandits whose
    rewards are 0 or 1; ``means`` [D, K] are the tasks' success probabilities.
    """

    means: Array  # [D, K] float32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_array("means", self.means, (None, self.num_arms), low=0.0, high=1.0)

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        if "means" not in settings:
            raise InputError("posterior-pool agent: needs the means [D, K] of the tasks in the pool")
        return super().for_env(env, **settings)

    def log_likelihood(self, state: ArmStats) -> Array:
        """Of each task in the pool, [D]."""
        means = jnp.clip(self.means, TINY, 1.0 - TINY)
        return jnp.log(means) @ state.total + jnp.log1p(-means) @ (state.count - state.total)

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del obs
        drawn = categorical(key, self.log_likelihood(state))
        return jnp.argmax(self.means[drawn]).astype(jnp.int32)

    def act_greedy(self, key: Array, state: ArmStats, obs: Array) -> Array:
        """The arm with the largest posterior mean, the first on ties."""
        del key, obs
        return jnp.argmax(jax.nn.softmax(self.log_likelihood(state)) @ self.means).astype(jnp.int32)

    def optimal_action_probs(self, state: ArmStats) -> Array:
        """P(arm a is the best | data), [K]: the law of ``act``."""
        best = jax.nn.one_hot(jnp.argmax(self.means, axis=1), self.num_arms, dtype=jnp.float32)
        return jax.nn.softmax(self.log_likelihood(state)) @ best
