"""Exponential weights (Auer, Cesa-Bianchi, Freund, Schapire 2002, The Nonstochastic Multiarmed Bandit Problem).

Exp3 competes with the best arm, Exp3.S with the best sequence of arms that switches seldom; rewards may be anything.
"""

import math
from typing import Any, Self

import jax
import jax.numpy as jnp

from icrl.agents._arm_agent import MAX_ARMS, argmax_random_ties
from icrl.agents._grids import multiples
from icrl.core import struct
from icrl.core.errors import require_int
from icrl.core.fields import required, setting
from icrl.core.registry import agents
from icrl.core.threefry import categorical
from icrl.core.types import Agent, Array, Environment, Grid, Transition


@agents.register("exp3", paper="Auer et al. 2002")
@struct.dataclass
class Exp3(Agent):
    """p_a = (1 - gamma) w_a / sum w + gamma / K; w_a grows by exp(gamma (r / p_a) / K), then shares are mixed.

    For rewards in [0, 1]. ``for_env`` takes gamma = min(1, sqrt(K ln K / ((e - 1) T))) with T the length of an
    episode, which promises a regret of at most 2.63 sqrt(T K ln K) (their corollary 3.2). Its state is ln w [K]
    float32. The weight of an action is corrected by its probability, so that shown actions chosen by others it
    learns from as if they were its own.
    """

    num_arms: int = required(low=1, high=MAX_ARMS, static=True, help="K, arms")
    gamma: float = setting(0.1, low=0.0, high=1.0, help="share of uniform exploration")
    alpha: float = setting(0.0, low=0.0, help="e alpha / K of the total weight goes to every arm at each step")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        num_arms = require_int("num_arms", settings.get("num_arms", env.num_actions), 1, MAX_ARMS)
        gamma = min(1.0, math.sqrt(num_arms * math.log(num_arms) / ((math.e - 1) * env.spec.max_steps_in_episode)))
        return cls(**{"num_arms": num_arms, "gamma": gamma, **settings})

    @classmethod
    def candidates(cls, env: Environment) -> Grid:
        return multiples(cls, env, ("gamma",), (0.25, 0.5, 2.0, 4.0), most=1.0)

    def init(self, key: Array) -> Array:
        del key
        return jnp.zeros(self.num_arms, jnp.float32)

    def action_probs(self, state: Array) -> Array:
        """The law of ``act``, [K]."""
        return (1.0 - self.gamma) * jax.nn.softmax(state) + self.gamma / self.num_arms

    def act(self, key: Array, state: Array, obs: Array) -> Array:
        del obs
        return categorical(key, jnp.log(self.action_probs(state)))

    def act_greedy(self, key: Array, state: Array, obs: Array) -> Array:
        """The largest weight, ties broken uniformly."""
        del obs
        return argmax_random_ties(key, state)

    def update(self, state: Array, transition: Transition) -> Array:
        pulled = jnp.arange(self.num_arms) == transition.action
        estimate = jnp.where(pulled, transition.reward / self.action_probs(state), 0.0)
        share = jnp.e * self.alpha / self.num_arms
        grown = jnp.exp(self.gamma * estimate / self.num_arms) * jax.nn.softmax(state) + share
        return jnp.log(grown / jnp.max(grown))  # only ratios matter; an arm's share stays a float32 above 0


@agents.register("exp3-s", paper="Auer et al. 2002")
@struct.dataclass
class Exp3S(Exp3):
    """Exp3 with alpha = 1 / T, so that an arm that was bad can come back: for rewards that change.

    ``for_env`` takes gamma = min(1, sqrt(K (S ln(K T) + e) / ((e - 1) T))) (their corollary 8.2), where the best arm is
    to change S - 1 times; ``num_segments`` is S.
    """

    @classmethod
    def for_env(cls, env: Environment, num_segments: int = 4, **settings: Any) -> Self:
        num_arms = require_int("num_arms", settings.get("num_arms", env.num_actions), 1, MAX_ARMS)
        num_segments, horizon = require_int("num_segments", num_segments, 1, 2**31 - 1), env.spec.max_steps_in_episode
        hardness = num_arms * (num_segments * math.log(num_arms * horizon) + math.e)
        gamma = min(1.0, math.sqrt(hardness / ((math.e - 1) * horizon)))
        return super().for_env(env, **{"gamma": gamma, "alpha": 1.0 / horizon, **settings})
