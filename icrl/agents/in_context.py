"""A pretrained sequence model as just another agent: frozen weights, all learning in its context."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from icrl.agents._model_agent import ModelAgent
from icrl.core import struct
from icrl.core.fields import check_array
from icrl.core.registry import agents
from icrl.core.types import Array, Transition


class InContextState(NamedTuple):
    """Memory of the model, and what it says of the next action when that needs no more tokens."""

    carry: Any
    logits: Array  # [K] float32; zeros for a layout that reads the observation before each action


@agents.register("in-context", paper="Lee et al. 2023, algorithm 1; Laskin et al. 2022, algorithm 1")
@struct.dataclass
class InContextAgent(ModelAgent):
    """Appends each transition to the context, which holds ``max_steps`` of them; see ``RollingContextAgent`` for more.

    ``query`` [*O] is the observation put first by a layout with a prompt; it is constant over a bandit task.
    """

    query: Array = struct.field(kw_only=True)  # [*O] float32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_array("query", self.query, self.layout.obs_shape)

    @property
    def capacity(self) -> int | None:
        return self.max_steps

    def init(self, key: Array) -> InContextState:
        del key
        carry = self.policy.initial_carry()
        prompt = self.layout.prompt(self.query)
        if prompt.shape[0] == 0:
            return InContextState(carry, jnp.zeros(self.layout.num_actions, jnp.float32))
        return self.after(prompt, carry)

    def logits(self, state: InContextState, obs: Array) -> Array:
        """What the model says of each action at ``obs``, [K] float32."""
        tokens = self.layout.before(obs)
        return self.policy(tokens, None, state.carry)[0][-1] if tokens.shape[0] else state.logits

    def update(self, state: InContextState, transition: Transition) -> InContextState:
        tokens = jnp.concatenate([self.layout.before(transition.obs), self.layout.after(transition)])
        return self.after(tokens, state.carry)

    def after(self, tokens: Array, carry: Any) -> InContextState:
        """The memory once ``tokens`` [T, D] are read; compiled without what only logits that nobody asks for need."""
        logits, carry = self.policy(tokens, None, carry)
        if self.layout.num_before:
            logits = jnp.zeros_like(logits)
        return InContextState(carry, logits[-1])
