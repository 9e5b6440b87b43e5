"""A pretrained sequence model as just another agent: frozen weights, all learning in its context."""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import struct

from icrl.errors import InputError
from icrl.registry import agents
from icrl.types import Agent, Array, Environment, Layout, Transition


class InContextState(NamedTuple):
    """Memory of the model, and what it says of the next action."""

    carry: Any
    logits: Array  # [K] float32


@agents.register("in-context", paper="Lee et al. 2023, algorithm 1")
@struct.dataclass
class InContextAgent(Agent):
    """Samples from the model's softmax (temperature 1) and appends each transition to the context.

    ``policy`` maps (tokens [T, D], start, carry) to (logits [T, K], carry) and has ``initial_carry()``; it is the one
    pretrained with ``layout``. ``query`` [*O] is the observation put first; it is constant over a bandit task.
    """

    policy: Any
    query: Array  # [*O] float32
    layout: Layout = struct.field(pytree_node=False)
    max_steps: int = struct.field(pytree_node=False)  # transitions the context can hold

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        if "policy" not in settings:
            raise InputError("in-context agent: needs a trained policy; use icrl.load_agent(folder)")
        return cls(**settings)

    def init(self, key: Array) -> InContextState:
        del key
        return self._read(self.layout.encode_query(self.query), self.policy.initial_carry())

    def act(self, key: Array, state: InContextState, obs: Array) -> Array:
        del obs
        return jax.random.categorical(key, state.logits).astype(jnp.int32)

    def act_greedy(self, key: Array, state: InContextState, obs: Array) -> Array:
        """The most likely action."""
        del key, obs
        return jnp.argmax(state.logits).astype(jnp.int32)

    def update(self, state: InContextState, transition: Transition) -> InContextState:
        return self._read(self.layout.encode(transition), state.carry)

    def _read(self, token: Array, carry: Any) -> InContextState:
        logits, carry = self.policy(token[None], None, carry)
        return InContextState(carry, logits[0])
