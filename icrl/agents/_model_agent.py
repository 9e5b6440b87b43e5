"""What the agents share that are a pretrained sequence model: they sample from its softmax, or take its mode."""

import abc
from typing import Any, Self

import jax
import jax.numpy as jnp

from icrl.core import struct
from icrl.core.errors import InputError, require
from icrl.core.fields import required
from icrl.core.model_types import Layout
from icrl.core.types import Agent, Array, Environment, History

NO_ACTION = -1  # of a memory that holds NaN or infinity: no choice rests on it


def _if_finite(logits: Array, action: Array) -> Array:
    return jnp.where(jnp.all(jnp.isfinite(logits)), action, NO_ACTION).astype(jnp.int32)


@struct.dataclass
class ModelAgent(Agent):
    """Frozen weights; all learning is in the context. Subclasses say which transitions a decision rests on.

    ``policy`` maps (tokens [T, D], start, carry) to (logits [T, K], carry) and has ``initial_carry()``; it is the one
    pretrained with ``layout``.
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
        if "policy" not in settings:
            raise InputError(f"{cls.__name__}: needs a trained policy; use icrl.load_agent(folder)")
        return cls(**settings)

    def of_actions(self, outputs: Array) -> Array:
        """The part [..., K] of what the policy's head gives that says what to do; it comes first."""
        return outputs[..., : self.layout.num_outputs]

    @abc.abstractmethod
    def logits(self, state: Any, obs: Array) -> Array:
        """What the model says of each action at ``obs``, [K] float32."""

    def act(self, key: Array, state: Any, obs: Array) -> Array:
        """A sample from the softmax of the logits, temperature 1; ``NO_ACTION`` where they are not finite."""
        logits = self.logits(state, obs)
        return _if_finite(logits, jax.random.categorical(key, logits))

    def act_greedy(self, key: Array, state: Any, obs: Array) -> Array:
        """The most likely action; ``NO_ACTION`` where the logits are not finite."""
        del key
        logits = self.logits(state, obs)
        return _if_finite(logits, jnp.argmax(logits))

    def empty_history(self) -> History:
        """Room for C transitions, all zero: [C, ...]."""
        zero = jnp.zeros(self.max_steps, jnp.int32)
        obs, flag = jnp.zeros((self.max_steps, *self.layout.obs_shape), jnp.float32), zero.astype(bool)
        return History(obs, zero, zero.astype(jnp.float32), obs, flag, flag)
