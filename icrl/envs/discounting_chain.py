"""Discounting Chain: five rewards at five distances, the best of which may be the farthest (Osband et al. 2020)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import require, require_int
from icrl.core.registry import environments
from icrl.core.types import Array, Environment, EnvSpec, TaskParams

PAYDAYS = (1, 3, 10, 30, 100)  # steps after which the chains pay
STEPS, BONUS = 100, 0.1


@struct.dataclass
class DiscountingChainTask(TaskParams):
    """Which chain pays a tenth more."""

    best: Array = struct.field(default_factory=lambda: jnp.int32(0))  # [] int32 in 0 .. 4


@struct.dataclass
class DiscountingChainState:
    """Which chain this episode is in."""

    time: Array  # [] int32, actions done
    chain: Array  # [] int32, -1 before the first action


@environments.register("DiscountingChain-v0", paper="Osband et al. 2020")
@dataclasses.dataclass(frozen=True)
class DiscountingChain(Environment[DiscountingChainTask]):
    """Observation [2]: the chain, -1 before the first action, and t / 100. Five actions, 100 steps, five tasks.

    The first action chooses a chain; chain i pays 1 in step 1, 3, 10, 30 or 100, the task's best chain 1.1. No other
    action does anything. Departure from bsuite: the end counts as a time limit, not as a termination.
    """

    @property
    def num_tasks(self) -> int:
        """One for each chain that may be the best."""
        return len(PAYDAYS)

    @property
    def spec(self) -> EnvSpec:
        chains = len(PAYDAYS)
        return EnvSpec(type(self).__name__, chains, (2,), -1.0, chains - 1.0, STEPS)

    def task(self, index: Array) -> DiscountingChainTask:
        """The task whose best chain is number ``index``; that is bsuite's ``mapping_seed`` modulo 5."""
        return DiscountingChainTask(best=jnp.asarray(index, jnp.int32), max_steps_in_episode=STEPS)

    def sample_task(self, key: Array) -> DiscountingChainTask:
        return self.task(jax.random.randint(key, (), 0, len(PAYDAYS), jnp.int32))

    def validate_task(self, params: DiscountingChainTask) -> None:
        require(type(params) is DiscountingChainTask, "task", type(params).__name__, "DiscountingChainTask")
        require_int("task.max_steps_in_episode", params.max_steps_in_episode, STEPS, STEPS)
        best = np.asarray(params.best)
        require(best.shape == (), "task.best", f"shape {best.shape}", "one number")
        require_int("task.best", best[()], 0, len(PAYDAYS) - 1)

    def reset_env(self, key: Array, params: DiscountingChainTask) -> tuple[Array, DiscountingChainState]:
        del key, params
        state = DiscountingChainState(jnp.int32(0), jnp.int32(-1))
        return self._observe(state), state

    def step_env(
        self, key: Array, state: DiscountingChainState, action: Array, params: DiscountingChainTask
    ) -> tuple[Array, DiscountingChainState, Array, Array, dict[str, Array]]:
        del key
        chain = jnp.where(state.time == 0, action, state.chain).astype(jnp.int32)
        after = DiscountingChainState(state.time + 1, chain)
        is_payday = after.time == jnp.array(PAYDAYS, jnp.int32)[chain]
        reward = jnp.where(is_payday, self._pay(params, chain), 0.0)
        return self._observe(after), after, reward, jnp.bool_(False), {}

    def _observe(self, state: DiscountingChainState) -> Array:
        return jnp.stack([state.chain.astype(jnp.float32), state.time / jnp.float32(STEPS)])

    def _pay(self, params: DiscountingChainTask, chain: Array) -> Array:
        return jnp.where(chain == params.best, jnp.float32(1 + BONUS), 1.0)

    def is_truncated(self, state: DiscountingChainState, params: DiscountingChainTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: DiscountingChainTask, state: DiscountingChainState) -> Array:
        """The best chain; after the first step nothing matters."""
        return params.best

    def regret(self, params: DiscountingChainTask, state: DiscountingChainState, action: Array) -> Array:
        """The bonus, for a first action that forgoes it."""
        return jnp.where((state.time == 0) & (action != params.best), jnp.float32(BONUS), 0.0)

    def optimal_return(self, params: DiscountingChainTask) -> Array:
        return self._pay(params, params.best)
