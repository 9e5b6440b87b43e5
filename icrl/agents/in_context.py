"""A pretrained sequence model as just another agent: frozen weights, all learning in its context."""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from icrl.core import struct
from icrl.core.errors import InputError
from icrl.core.registry import agents
from icrl.core.types import Agent, Array, Environment, Layout, Transition


class InContextState(NamedTuple):
    """Memory of the model, and what it says of the next action when that needs no more tokens."""

    carry: Any
    logits: Array  # [K] float32; zeros for a layout that reads the observation before each action


@agents.register("in-context", paper="Lee et al. 2023, algorithm 1; Laskin et al. 2022, algorithm 1")
@struct.dataclass
class InContextAgent(Agent):
    """Samples from the model's softmax (temperature 1) and appends each transition to the context.

    ``policy`` maps (tokens [T, D], start, carry) to (logits [T, K], carry) and has ``initial_carry()``; it is the one
    pretrained with ``layout``. ``query`` [*O] is the observation put first by a layout with a prompt; it is constant
    over a bandit task. The context holds ``max_steps`` transitions; for longer rollouts see ``RollingContextAgent``.
    """

    policy: Any
    query: Array  # [*O] float32
    layout: Layout = struct.field(pytree_node=False)
    max_steps: int = struct.field(pytree_node=False)  # transitions the context can hold

    @property
    def capacity(self) -> int | None:
        return self.max_steps

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        if "policy" not in settings:
            raise InputError("in-context agent: needs a trained policy; use icrl.load_agent(folder)")
        return cls(**settings)

    def init(self, key: Array) -> InContextState:
        del key
        carry = self.policy.initial_carry()
        prompt = self.layout.prompt(self.query)
        if prompt.shape[0] == 0:
            return InContextState(carry, jnp.zeros(self.layout.num_actions, jnp.float32))
        return self._after(prompt, carry)

    def act(self, key: Array, state: InContextState, obs: Array) -> Array:
        return jax.random.categorical(key, self.logits(state, obs)).astype(jnp.int32)

    def act_greedy(self, key: Array, state: InContextState, obs: Array) -> Array:
        """The most likely action."""
        del key
        return jnp.argmax(self.logits(state, obs)).astype(jnp.int32)

    def logits(self, state: InContextState, obs: Array) -> Array:
        """What the model says of each action at ``obs``, [K] float32."""
        tokens = self.layout.before(obs)
        return self.policy(tokens, None, state.carry)[0][-1] if tokens.shape[0] else state.logits

    def update(self, state: InContextState, transition: Transition) -> InContextState:
        tokens = jnp.concatenate([self.layout.before(transition.obs), self.layout.after(transition)])
        return self._after(tokens, state.carry)

    def _after(self, tokens: Array, carry: Any) -> InContextState:
        """The memory once ``tokens`` [T, D] are read; compiled without what only logits that nobody asks for need."""
        logits, carry = self.policy(tokens, None, carry)
        if self.layout.num_before:
            logits = jnp.zeros_like(logits)
        return InContextState(carry, logits[-1])
