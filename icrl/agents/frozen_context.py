"""The in-context agent of DPT on MDPs: its context is fixed during an episode, its query changes every step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from icrl.agents._clock import next_step
from icrl.agents._model_agent import ModelAgent
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, History, Transition


class FrozenContextState(NamedTuple):
    """The context decisions rest on, and the one that is being gathered."""

    context: History  # [C, ...]; the first ``fill`` transitions count, what follows is of older episodes
    fill: Array  # [] int32 in 0 .. C, steps of that episode
    carry: Any  # the model's memory of the context; None for a layout with a prompt
    recent: History  # [C, ...], the episode under way
    step: Array  # [] int32, steps done in the episode


@agents.register("frozen-context", paper="Lee et al. 2023, algorithm 1 and its released code")
@struct.dataclass
class FrozenContextAgent(ModelAgent):
    """Acts on a context that stands still during an episode and is then replaced by that episode.

    The paper's text appends episodes, its code keeps the latest C transitions, and with C = H that is one episode.
    A ``context`` [C, ...] given beforehand is never replaced: the offline evaluation. ``greedy`` plays the most
    likely action instead of sampling. C is the length of an episode, or the most that it can be: one that is
    terminated or truncated earlier is a shorter context. With a layout whose prompt is the query the whole context is
    read again at every step; one that reads a query before each action reads it once an episode. A layout that tells of
    the transition before does not fit: what was before the query is not the end of the context.
    """

    context: History | None = None
    greedy: bool = setting(False, static=True, help="take the most likely action instead of sampling")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.layout.tells_past, "layout", type(self.layout).__name__, "one that tells steps behind actions")

    def init(self, key: Array) -> FrozenContextState:
        del key
        empty = self.empty_history()
        if self.context is None:
            carry = None if self.layout.num_prompt else self.policy.initial_carry()
            return FrozenContextState(empty, jnp.int32(0), carry, empty, jnp.int32(0))
        told = self._read(self.context)
        return FrozenContextState(self.context, jnp.int32(self.max_steps), told, empty, jnp.int32(0))

    def act(self, key: Array, state: FrozenContextState, obs: Array) -> Array:
        return self.act_greedy(key, state, obs) if self.greedy else super().act(key, state, obs)

    def logits(self, state: FrozenContextState, obs: Array) -> Array:
        """What the model says of the actions at ``obs``, [N] float32."""
        if not self.layout.num_prompt:
            return self.of_actions(
                self.policy(self.layout.before(obs, self.layout.no_past()), None, state.carry)[0][-1]
            )
        queries = jnp.broadcast_to(obs, (self.max_steps + 1, *obs.shape))
        outputs, _ = self.policy(self.layout.sequence(state.context, queries))
        return self.of_actions(outputs)[self.layout.decisions(self.max_steps)[state.fill]]

    def update(self, state: FrozenContextState, transition: Transition) -> FrozenContextState:
        if self.context is not None:
            return state
        recent = jax.tree.map(lambda rows, row: rows.at[state.step].set(row), state.recent, transition)
        step, over = next_step(self.max_steps, state.step, transition)
        gathered, length = state._replace(recent=recent, step=step), state.step + 1
        return jax.lax.cond(over, self._begin_episode, lambda same, length: same, gathered, length)

    def _begin_episode(self, state: FrozenContextState, length: Array) -> FrozenContextState:
        """``recent``, an episode of ``length`` steps, becomes the context."""
        whole = length == self.max_steps
        carry = jax.lax.cond(whole, lambda: self._read(state.recent), lambda: self._read_first(state.recent, length))
        return state._replace(context=state.recent, fill=length, carry=carry)

    def _read(self, context: History) -> Any:
        """The model's memory of a whole context [C, ...]."""
        if self.layout.num_prompt:
            return None
        tokens = self.layout.sequence(context, jnp.append(context.obs, context.obs[-1:], axis=0))
        return self.policy(tokens[: -self.layout.num_before], None, self.policy.initial_carry())[1]

    def _read_first(self, context: History, length: Array) -> Any:
        """The model's memory of the first ``length`` transitions of ``context``, read one after the other."""
        if self.layout.num_prompt:
            return None

        def read_one(t: Array, carry: Any) -> Any:
            seen = jax.tree.map(lambda rows: rows[t], context)
            tokens = jnp.concatenate([self.layout.before(seen.obs, self.layout.no_past()), self.layout.after(seen)])
            return self.policy(tokens, None, carry)[1]

        return jax.lax.fori_loop(0, length, read_one, self.policy.initial_carry())
