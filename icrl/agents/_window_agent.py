"""What the agents share that keep the transitions behind the model's memory, to read them again."""

from typing import NamedTuple

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
    memory: InContextState


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
        """The model's memory behind the next decision; planning goes on from it."""
        return state.memory

    def logits(self, state: WindowState, obs: Array) -> Array:
        return self.reader.logits(state.memory, obs)

    def appended(self, state: WindowState, transition: Transition) -> WindowState:
        """The state with one transition more, for which there must be room."""
        window = jax.tree.map(lambda rows, row: rows.at[state.fill].set(row), state.window, transition)
        return WindowState(window, state.fill + 1, self.reader.update(state.memory, transition))

    def read(self, memory: InContextState, history: History) -> InContextState:
        """``memory`` once it has read history [T, ...] as well, in one go."""
        if history.action.shape[0] == 0:
            return memory
        queries = jnp.append(history.obs, history.next_obs[-1:], axis=0)
        tokens = self.layout.sequence(history, queries, past=memory.past)
        read = slice(self.layout.num_prompt, tokens.shape[0] - self.layout.num_before)
        memory = self.reader.after(tokens[read], memory)
        last = jax.tree.map(lambda rows: rows[-1], history)
        return memory._replace(past=last) if self.layout.tells_past else memory
