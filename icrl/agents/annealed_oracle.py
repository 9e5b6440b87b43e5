"""Noise-annealed play of the optimal policy: learning histories without learning (AD^eps, Zisman et al. 2024)."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp

from icrl.agents._arm_agent import MAX_ARMS
from icrl.agents.oracle import Oracle
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import randint, split, uniform
from icrl.core.types import Array, Environment, Transition


class AnnealedState(NamedTuple):
    """How long the life has lasted."""

    time: Array  # [] int32


@agents.register("annealed-oracle", paper="Zisman et al. 2024")
@struct.dataclass
class AnnealedOracle(Oracle):
    """Optimal with probability 1 - eps, else uniform; eps falls linearly from 1 to ``final_epsilon``.

    It looks like an agent that improves, and costs nothing to train. ``anneal_steps`` is the length of the fall in
    transitions.
    """

    num_actions: int = setting(2, low=0, high=MAX_ARMS, static=True, help="K, actions; 0 in a box of them")
    anneal_steps: float = setting(1000, low=0.0, open_low=True, help="transitions in which epsilon falls")
    final_epsilon: float = setting(0.0, low=0.0, high=1.0, help="epsilon after that")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return super().for_env(env, **{"num_actions": env.spec.num_actions, **settings})

    def init(self, key: Array) -> AnnealedState:
        del key
        return AnnealedState(jnp.int32(0))

    def act(self, key: Array, state: AnnealedState, obs: Any) -> Array:
        key_noise, key_action, key_optimal = split(key, 3)
        progress = jnp.clip(state.time / self.anneal_steps, 0.0, 1.0)
        epsilon = 1.0 + progress * (self.final_epsilon - 1.0)
        noisy = uniform(key_noise) < epsilon
        best = super().act(key_optimal, jnp.zeros(0, jnp.float32), obs)
        if box := self.env.spec.action_box:
            return jnp.where(noisy, box.draw(key_action), best)
        any_action = randint(key_action, (), 0, self.num_actions)
        return jnp.where(noisy, any_action, best).astype(jnp.int32)

    def update(self, state: AnnealedState, transition: Transition) -> AnnealedState:
        del transition
        return AnnealedState(state.time + 1)
