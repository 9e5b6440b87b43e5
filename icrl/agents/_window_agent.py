"""What the agents share that keep the transitions behind the model's memory, to read them again."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from icrl.agents._model_agent import ModelAgent
from icrl.agents.in_context import InContextAgent, InContextState
from icrl.core import struct
from icrl.core.fields import check_array
from icrl.core.types import Array, History, Transition


class WindowState(NamedTuple):
    """The window of transitions behind the model's memory."""

    window: History  # [C, ...]; the first ``fill``, in order of time, are what the model has read
    fill: Array  # [] int32 in 0 .. C - 1
    memory: Any  # an ``InContextState``, or its ``DecidedState`` between a decision and what comes of it


@struct.dataclass
class WindowAgent(ModelAgent):
    """A context of at most ``max_steps`` = C transitions. Subclasses say when what leaves it."""

    query: Array = struct.field(kw_only=True)  # [*O] float32, see ``InContextAgent``

    def __post_init__(self) -> None:
        super().__post_init__()
        check_array("query", self.query, self.layout.obs_shape)

    @property
    def reader(self) -> InContextAgent:
        """The agent that reads the window."""
        return InContextAgent(policy=self.policy, query=self.query, layout=self.layout, max_steps=self.max_steps)

    def init(self, key: Array) -> WindowState:
        return WindowState(self.empty_history(), jnp.int32(0), self.reader.init(key))

    def memory(self, state: WindowState) -> InContextState:
        """The model's memory of all that was told; planning goes on from it."""
        return self.reader.memory(state.memory)

    def logits(self, state: WindowState, obs: Array) -> Array:
        return self.reader.logits(state.memory, obs)

    def decide(self, key: Array, state: WindowState, obs: Array) -> tuple[Array, WindowState]:
        action, memory = self.reader.decide(key, state.memory, obs)
        return action, state._replace(memory=memory)

    def appended(self, state: WindowState, transition: Transition) -> WindowState:
        """The state with one transition more, for which there must be room."""
        window = jax.tree.map(lambda rows, row: rows.at[state.fill].set(row), state.window, transition)
        return WindowState(window, state.fill + 1, self.reader.update(state.memory, transition))
