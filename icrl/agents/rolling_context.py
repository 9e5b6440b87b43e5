"""The in-context agent for rollouts longer than its context: it forgets the oldest steps and reads the rest again."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from icrl.agents._model_agent import ModelAgent
from icrl.agents.in_context import InContextAgent, InContextState
from icrl.core import struct
from icrl.core.fields import check_array, setting
from icrl.core.registry import agents
from icrl.core.types import Array, History, Transition


class RollingState(NamedTuple):
    """The window of transitions behind the model's memory."""

    window: History  # [C, ...]; the first ``fill`` are what the model has read
    fill: Array  # [] int32 in 0 .. C - 1
    memory: InContextState


@agents.register("rolling-context", paper="Laskin et al. 2022, algorithm 1; Son et al. 2025")
@struct.dataclass
class RollingContextAgent(ModelAgent):
    """A context of at most ``max_steps`` = C transitions that moves along.

    When the window is full, its oldest ``forget`` = R transitions leave and the C - R others are read afresh, so each
    decision rests on the latest C - R .. C - 1 transitions, exactly as in training on windows of C. R = 1 is the
    window that moves with every step; R = the length of an episode, where all have the same, begins each episode with
    whole ones. Where episodes end early a window may begin inside of one, as windows in training then do. It costs
    (C - R) / R tokens a step. Tasks of a batch take their steps together, so under ``vmap`` nothing is read in vain.
    """

    query: Array = struct.field(kw_only=True)  # [*O] float32, see ``InContextAgent``
    forget: int = setting(1, low=1, high="max_steps", static=True, help="R, transitions that leave a full window")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_array("query", self.query, self.layout.obs_shape)

    @property
    def reader(self) -> InContextAgent:
        """The agent that reads the window."""
        return InContextAgent(policy=self.policy, query=self.query, layout=self.layout, max_steps=self.max_steps)

    def init(self, key: Array) -> RollingState:
        return RollingState(self.empty_history(), jnp.int32(0), self.reader.init(key))

    def memory(self, state: RollingState) -> InContextState:
        """The model's memory behind the next decision; planning goes on from it."""
        return state.memory

    def logits(self, state: RollingState, obs: Array) -> Array:
        return self.reader.logits(state.memory, obs)

    def update(self, state: RollingState, transition: Transition) -> RollingState:
        window = jax.tree.map(lambda rows, row: rows.at[state.fill].set(row), state.window, transition)
        after = RollingState(window, state.fill + 1, self.reader.update(state.memory, transition))
        return jax.lax.cond(after.fill == self.max_steps, self._forget_oldest, lambda same: same, after)

    def _forget_oldest(self, state: RollingState) -> RollingState:
        kept = self.max_steps - self.forget
        window = jax.tree.map(lambda rows: jnp.roll(rows, -self.forget, axis=0), state.window)
        return RollingState(window, jnp.int32(kept), self._read_again(jax.tree.map(lambda rows: rows[:kept], window)))

    def _read_again(self, history: History) -> InContextState:
        """The memory of history [T, ...] alone, read in one go."""
        memory = self.reader.init(jax.random.key(0))
        if history.action.shape[0] == 0:
            return memory
        tokens = self.layout.sequence(history, jnp.append(history.obs, history.next_obs[-1:], axis=0))
        read = slice(self.layout.num_prompt, tokens.shape[0] - self.layout.num_before)
        memory = self.reader.after(tokens[read], memory)
        last = jax.tree.map(lambda rows: rows[-1], history)
        return memory._replace(past=last) if self.layout.tells_past else memory
