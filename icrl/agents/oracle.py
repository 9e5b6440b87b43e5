"""The agent that knows its task: the optimum every curve is measured against."""

from typing import Any, Self

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.errors import require
from icrl.core.registry import agents
from icrl.core.types import Agent, Array, Environment, TaskParams, Transition


@agents.register("oracle", paper="-")
@struct.dataclass
class Oracle(Agent):
    """Plays ``env.optimal_action``; ``for_task`` must have been called (``interact`` does)."""

    sees_env_state = True

    env: Environment = struct.field(pytree_node=False)
    task: TaskParams | None = None

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        require(env.spec.knows_optimum, "env", env.name, "one whose optimum is known, which an oracle needs")
        return cls(**{"env": env, **settings})

    def for_task(self, params: TaskParams) -> Self:
        return self.replace(task=params)  # type: ignore[attr-defined]

    def init(self, key: Array) -> Any:
        del key
        return jnp.zeros(0, jnp.float32)

    def act(self, key: Array, state: Any, obs: Any) -> Array:
        del key, state
        require(self.task is not None, "oracle.task", None, "a task, set by for_task")
        return self.env.optimal_action(self.task, obs)

    def update(self, state: Any, transition: Transition) -> Any:
        del transition
        return state
