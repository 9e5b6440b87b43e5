"""Families of one task: what is hidden is drawn anew in every episode, and no two episodes are alike."""

import dataclasses

import jax.numpy as jnp

from icrl.core.errors import require, require_int
from icrl.core.types import Array, Environment, EnvState, TaskParams


@dataclasses.dataclass(frozen=True)
class OneTask(Environment[TaskParams]):
    """A game whose every episode is another draw, so that nothing is to be learned across episodes but the game.

    The draw stands in the state, which counts the actions done in ``time`` [] int32. Optimal actions, regrets and
    returns are those of a player who sees the state: no policy that sees observations alone need reach them.
    """

    @property
    def num_tasks(self) -> int:
        """There is but one."""
        return 1

    def task(self, index: Array) -> TaskParams:
        """The task, whatever ``index`` says."""
        del index
        return TaskParams(max_steps_in_episode=self.spec.max_steps_in_episode)

    def sample_task(self, key: Array) -> TaskParams:
        """The one task; nothing is drawn."""
        del key
        return self.task(jnp.int32(0))

    def validate_task(self, params: TaskParams) -> None:
        require(type(params) is TaskParams, "task", type(params).__name__, "TaskParams")
        limit = self.spec.max_steps_in_episode
        require_int("task.max_steps_in_episode", params.max_steps_in_episode, limit, limit)

    def is_truncated(self, state: EnvState, params: TaskParams) -> Array:
        return state.time >= params.max_steps_in_episode
