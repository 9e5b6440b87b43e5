"""A pretrained sequence model as just another agent: frozen weights, all learning in its context."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from icrl.agents._model_agent import ModelAgent
from icrl.core import struct
from icrl.core.fields import check_array, setting
from icrl.core.registry import agents
from icrl.core.types import Array, Transition


class InContextState(NamedTuple):
    """Memory of the model, and what it says of the next action when that needs no more tokens."""

    carry: Any
    logits: Array  # [N] float32; zeros for a layout that reads the observation before each action
    past: Transition | None  # the one before; None for a layout that does not ask for it
    episodes: Array  # [] int32, episodes of the context that are over; stays 0 in one that never begins anew


@agents.register("in-context", paper="Lee et al. 2023, algorithm 1; Laskin et al. 2022, algorithm 1")
@struct.dataclass
class InContextAgent(ModelAgent):
    """Appends each transition to the context, which holds ``max_steps`` of them; see ``RollingContextAgent`` for more.

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

    def init(self, key: Array) -> InContextState:
        del key
        carry, past = self.policy.initial_carry(), self.layout.no_past() if self.layout.tells_past else None
        logits, prompt = jnp.zeros(self.layout.num_outputs, jnp.float32), self.layout.prompt(self.query)
        empty = InContextState(carry, logits, past, jnp.int32(0))
        return self.after(prompt, empty) if prompt.shape[0] else empty

    def memory(self, state: InContextState) -> InContextState:
        """The model's memory behind the next decision; planning goes on from it."""
        return state

    def logits(self, state: InContextState, obs: Array) -> Array:
        """What the model says of the actions at ``obs``, [N] float32."""
        tokens = self._before(state, obs)
        return self.of_actions(self.policy(tokens, None, state.carry)[0][-1]) if tokens.shape[0] else state.logits

    def update(self, state: InContextState, transition: Transition) -> InContextState:
        tokens = jnp.concatenate([self._before(state, transition.obs), self.layout.after(transition)])
        state = self.after(tokens, state)
        if self.layout.tells_past:
            state = state._replace(past=transition)
        return state if self.trial_episodes is None else self._in_trial(self.trial_episodes, state, transition)

    def _in_trial(self, length: int, state: InContextState, transition: Transition) -> InContextState:
        """The same state, or one that remembers nothing, if that was the end of the trial."""
        episodes = state.episodes + (transition.terminated | transition.truncated)
        fresh = self.init(jax.random.key(0))
        return jax.tree.map(
            lambda new, old: jnp.where(episodes == length, new, old), fresh, state._replace(episodes=episodes)
        )

    def _before(self, state: InContextState, obs: Array) -> Array:
        return self.layout.before(obs, self.layout.no_past() if state.past is None else state.past)

    def after(self, tokens: Array, state: InContextState) -> InContextState:
        """The memory once ``tokens`` [T, D] are read; compiled without what only logits that nobody asks for need."""
        outputs, carry = self.policy(tokens, None, state.carry)
        logits = self.of_actions(outputs)
        if self.layout.num_before:
            logits = jnp.zeros_like(logits)
        return state._replace(carry=carry, logits=logits[-1])
