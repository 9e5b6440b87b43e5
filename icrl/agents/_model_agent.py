"""What the agents share that are a pretrained sequence model: they sample from its action head, or take its mode."""

import abc
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from icrl.core import struct
from icrl.core.errors import InputError, require
from icrl.core.fields import lacking, required
from icrl.core.model_types import Layout
from icrl.core.types import Agent, Array, Environment, History

PIECE = 24  # tokens read at once on a CPU at most: what is computed of them stays in a core's cache (benchmarks)


def read_in_pieces(policy: Any, tokens: Array, start: Array | None, carry: Any) -> tuple[Array, Any]:
    """What ``policy`` says behind the last of ``tokens`` [T, D], [N], and its memory behind them.

    Elsewhere than on a CPU all are read at once.
    """
    length = tokens.shape[0]
    count = -(-length // PIECE) if jax.default_backend() == "cpu" else 1
    size = -(-length // count)
    head = length - (count - 1) * size
    outputs, carry = policy(tokens[:head], None if start is None else start[:head], carry)
    if count == 1:
        return outputs[-1], carry

    def read_on(carry: Any, piece: tuple[Array, Array | None]) -> tuple[Any, Array]:
        outputs, carry = policy(piece[0], piece[1], carry)
        return carry, outputs[-1]

    pieces = jax.tree.map(lambda rows: rows[head:].reshape(count - 1, size, *rows.shape[1:]), (tokens, start))
    carry, said = jax.lax.scan(read_on, carry, pieces)
    return said[-1], carry


def require_trained(cls: type[Agent], settings: Mapping[str, Any]) -> None:
    """Raise ``InputError`` unless ``settings`` have all that an agent with a trained policy is made of."""
    if missing := lacking(cls, settings):
        hint = f"use icrl.load_agent(folder), or give {', '.join(missing)}"
        raise InputError(f"{cls.__name__}: needs a trained policy; {hint}")


@struct.dataclass
class ModelAgent(Agent):
    """Frozen weights; all learning is in the context. Subclasses say which transitions a decision rests on.

    ``policy`` maps (tokens [T, D], start, carry) to (outputs [T, N], carry) and has ``initial_carry()``; it is the one
    pretrained with ``layout``, whose head takes the N outputs for K logits or for a distribution over a box of actions.
    Where they are not finite "no action" is chosen: -1, or NaN.
    """

    policy: Any
    layout: Layout = struct.field(pytree_node=False)
    max_steps: int = required(low=1, high=2**24, static=True, help="C, transitions that the context can hold")

    def __post_init__(self) -> None:
        super().__post_init__()
        is_policy = hasattr(self.policy, "initial_carry")
        require(is_policy, "policy", type(self.policy).__name__, "a pretrained policy")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        require_trained(cls, settings)
        return cls(**settings)

    def of_actions(self, outputs: Array) -> Array:
        """The part [..., K] of what the policy's head gives that says what to do; it comes first."""
        return outputs[..., : self.layout.num_outputs]

    @abc.abstractmethod
    def logits(self, state: Any, obs: Array) -> Array:
        """What the model says of the actions at ``obs``, [N] float32."""

    def act(self, key: Array, state: Any, obs: Array) -> Array:
        """A sample from the head's distribution: of logits their softmax, temperature 1."""
        return self.sampled(key, self.logits(state, obs))

    def sampled(self, key: Array, logits: Array) -> Array:
        """An action drawn from what the model says, ``logits`` [N]."""
        return self.layout.head.if_finite(logits, self.layout.head.sample(key, logits))

    def act_greedy(self, key: Array, state: Any, obs: Array) -> Array:
        """The most likely action."""
        del key
        logits = self.logits(state, obs)
        return self.layout.head.if_finite(logits, self.layout.head.mode(logits))

    def empty_history(self) -> History:
        """Room for C transitions, all zero: [C, ...]."""
        zero = jnp.zeros(self.max_steps, jnp.int32)
        obs, flag = jnp.zeros((self.max_steps, *self.layout.obs_shape), jnp.float32), zero.astype(bool)
        head = self.layout.head
        action = jnp.zeros((self.max_steps, *head.action_shape), head.dtype)
        return History(obs, action, zero.astype(jnp.float32), obs, flag, flag)
