"""A pretrained sequence model as just another agent: frozen weights, all learning in its context."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from icrl.agents._model_agent import ModelAgent, read_in_pieces
from icrl.core import struct
from icrl.core.fields import check_array, setting
from icrl.core.model_types import HIDDEN
from icrl.core.registry import agents
from icrl.core.types import Array, History, Transition


class InContextState(NamedTuple):
    """Memory of the model, and what it says of the next action when that needs no more tokens."""

    carry: Any
    logits: Array  # [N] float32; zeros for a layout that reads the observation before each action
    past: Transition | None  # the latest one; None where nobody asks for it
    has_past: Array  # [] bool, whether there is one
    episodes: Array  # [] int32, episodes of the context that are over; stays 0 in one that never begins anew


class DecidedState(NamedTuple):
    """The same between a decision and what comes of it: ``memory`` has read the observation as well."""

    memory: InContextState


@agents.register("in-context", paper="Lee et al. 2023, algorithm 1; Laskin et al. 2022, algorithm 1")
@struct.dataclass
class InContextAgent(ModelAgent):
    """Appends each transition to the context, which holds ``max_steps`` of them; see ``RollingContextAgent`` for more.

    What a transition tells is read together with the next observation, so a step is one call of the model. Where there
    is no transition yet something is read in its place, and hidden by a start.

    With ``trial_episodes`` E the context begins anew behind every E-th episode, as the memory of RL^2 does with every
    trial (Duan et al. 2016), and the agent lives on for any time.

    ``query`` [*O] is the observation put first by a layout with a prompt; it is constant over a bandit task.
    """

    query: Array = struct.field(kw_only=True)  # [*O] float32
    trial_episodes: int | None = setting(
        None, low=1, high=2**24, static=True, help="E, episodes of a context; none: it never begins anew"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_array("query", self.query, self.layout.obs_shape)

    @property
    def capacity(self) -> int | None:
        return self.max_steps if self.trial_episodes is None else None

    @property
    def _reads_late(self) -> bool:
        """Whether a transition is read when the next observation is there; else at once."""
        layout = self.layout
        return layout.num_before > 0 and layout.num_prompt == 0 and layout.num_after <= HIDDEN

    def init(self, key: Array) -> InContextState:
        del key
        past = self.layout.no_past() if self.layout.tells_past or self._reads_late else None
        logits, prompt = jnp.zeros(self.layout.num_outputs, jnp.float32), self.layout.prompt(self.query)
        empty = InContextState(self.policy.initial_carry(), logits, past, jnp.bool_(False), jnp.int32(0))
        return self._after(prompt, empty) if prompt.shape[0] else empty

    def memory(self, state: InContextState) -> InContextState:
        """With all that was told; planning goes on from it."""
        if state.past is None or not self._reads_late or not self.layout.num_after:
            return state
        read = self.policy(self.layout.after(state.past), None, state.carry)[1]
        return state._replace(
            carry=jax.tree.map(lambda new, old: jnp.where(state.has_past, new, old), read, state.carry)
        )

    def logits(self, state: InContextState, obs: Array) -> Array:
        """What the model says of the actions at ``obs``, [N] float32."""
        return self._asked(state, obs)[0] if self.layout.num_before else state.logits

    def decide(self, key: Array, state: InContextState, obs: Array) -> tuple[Array, Any]:
        if not self.layout.num_before:
            return super().decide(key, state, obs)
        logits, asked = self._asked(state, obs)
        return self.sampled(key, logits), asked

    def update(self, state: InContextState | DecidedState, transition: Transition) -> InContextState:
        if not self.layout.num_before:
            assert isinstance(state, InContextState)
            after = self._after(self.layout.after(transition), state)
        else:
            asked = state if isinstance(state, DecidedState) else self._asked(state, transition.obs)[1]
            after = asked.memory if self._reads_late else self._after(self.layout.after(transition), asked.memory)
        if after.past is not None:
            after = after._replace(past=transition)
        after = after._replace(has_past=jnp.bool_(True))
        return after if self.trial_episodes is None else self._in_trial(self.trial_episodes, after, transition)

    def read(self, state: InContextState, history: History) -> InContextState:
        """The state once history [T, ...] was told as well, in pieces."""
        if history.action.shape[0] == 0:
            return state
        layout, queries = self.layout, jnp.append(history.obs, history.next_obs[-1:], axis=0)
        tokens = layout.sequence(history, queries, past=state.past if layout.tells_past else None)
        tokens = tokens[layout.num_prompt : tokens.shape[0] - layout.num_before]
        if self._reads_late:
            tokens, start = self._behind_past(state, tokens[: tokens.shape[0] - layout.num_after])
        else:
            start = None
        last = jax.tree.map(lambda rows: rows[-1], history)
        state = self._after(tokens, state, start)
        return state._replace(past=None if state.past is None else last, has_past=jnp.bool_(True))

    def _in_trial(self, length: int, state: InContextState, transition: Transition) -> InContextState:
        """The same state, or one that remembers nothing, if that was the end of the trial."""
        episodes = state.episodes + (transition.terminated | transition.truncated)
        fresh = self.init(jax.random.key(0))
        return jax.tree.map(
            lambda new, old: jnp.where(episodes == length, new, old), fresh, state._replace(episodes=episodes)
        )

    def _asked(self, state: InContextState, obs: Array) -> tuple[Array, DecidedState]:
        """What the model says at ``obs``, of a layout that reads it, and the state once it has."""
        past = self.layout.no_past() if state.past is None else state.past
        tokens, start = self.layout.before(obs, past), None
        if self._reads_late:
            tokens, start = self._behind_past(state, tokens)
        outputs, carry = self.policy(tokens, start, state.carry)
        return self.of_actions(outputs[-1]), DecidedState(state._replace(carry=carry))

    def _behind_past(self, state: InContextState, tokens: Array) -> tuple[Array, Array | None]:
        """``tokens`` [T, D] behind those of the latest transition, and the start that hides these if there is none."""
        assert state.past is not None
        # where there is none, zeros: a start hides no NaN, which stands for no action, as 0 NaN is NaN
        told = jnp.where(state.has_past, self.layout.after(state.past), 0.0)
        if not told.shape[0]:
            return tokens, None
        number = jnp.arange(told.shape[0] + tokens.shape[0])
        return jnp.concatenate([told, tokens]), (number == told.shape[0]) & ~state.has_past

    def _after(self, tokens: Array, state: InContextState, start: Array | None = None) -> InContextState:
        """The memory once ``tokens`` [T, D] are read; compiled without what only logits that nobody asks for need."""
        outputs, carry = read_in_pieces(self.policy, tokens, start, state.carry)
        logits = self.of_actions(outputs)
        if self.layout.num_before:
            logits = jnp.zeros_like(logits)
        return state._replace(carry=carry, logits=logits)
