"""What agents that plan in a tabular model share: counts of all that happened, one plan an episode."""

import abc
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from icrl.agents._arm_agent import argmax_random_ties
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.precision import in_32_bits
from icrl.core.threefry import split
from icrl.core.types import Agent, Array, Environment, EnvSpec, Transition


class Counts(NamedTuple):
    """Sufficient statistics of the transitions seen, at whatever step of an episode."""

    visits: Array  # [S, K, S] int32, transitions seen
    reward: Array  # [S, K] float32, sum of rewards

    @property
    def tries(self) -> Array:
        """n(s, a), [S, K] int32."""
        return self.visits.sum(-1, dtype=jnp.int32)

    @property
    def tried(self) -> Array:
        """max(n(s, a), 1), [S, K] int32, to divide by."""
        return jnp.maximum(self.tries, 1)

    @property
    def mean_reward(self) -> Array:
        """[S, K] float32; 0 for a pair never tried."""
        return self.reward / self.tried


class PlannerState(NamedTuple):
    """All counts, and the plan of the episode under way."""

    counts: Counts
    q: Array  # [H, S, K] float32, planned values by step of the episode
    step: Array  # [] int32 in 0 .. H - 1, steps done in the episode
    key: Array  # typed key of the plans to come; split at every plan


@struct.dataclass
class Planner(Agent):
    """Base of agents that make a plan Q [H, S, K] when an episode ends and follow it greedily through the next.

    A subclass says how ``plan`` makes values of counts. Transitions and rewards are taken not to depend on the step;
    every episode lasts H = ``max_steps_in_episode`` steps. Ties are broken at random. Needs observations that number
    finitely many states.
    """

    spec: EnvSpec = struct.field(pytree_node=False)

    @abc.abstractmethod
    def plan(self, key: Array, counts: Counts, q: Array) -> Array:
        """Values Q [H, S, K] float32 to act greedily upon in the next episode; the typed key is consumed.

        ``q`` is the plan of the episode before; at the very first it is infinite.
        """

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return cls(**{"spec": finite_spec(env), **settings})

    @in_32_bits
    def init(self, key: Array) -> PlannerState:
        key_plan, key_later = split(key)
        states, actions = self.spec.num_states, self.spec.num_actions
        assert states is not None
        visits, reward = jnp.zeros((states, actions, states), jnp.int32), jnp.zeros((states, actions), jnp.float32)
        counts = Counts(visits, reward)
        nothing = jnp.full((self.spec.max_steps_in_episode, states, actions), jnp.inf, jnp.float32)
        return PlannerState(counts, self.plan(key_plan, counts, nothing), jnp.int32(0), key_later)

    def act(self, key: Array, state: PlannerState, obs: Array) -> Array:
        return argmax_random_ties(key, state.q[state.step, self.spec.state_index(obs)])

    @in_32_bits
    def update(self, state: PlannerState, transition: Transition) -> PlannerState:
        here, there = self.spec.state_index(transition.obs), self.spec.state_index(transition.next_obs)
        visits = state.counts.visits.at[here, transition.action, there].add(1)
        reward = state.counts.reward.at[here, transition.action].add(transition.reward)
        # counted here and not read off the transition, so that tasks side by side plan together and only then
        step = (state.step + 1) % self.spec.max_steps_in_episode
        state = state._replace(counts=Counts(visits, reward), step=step)
        return jax.lax.cond(step == 0, self._plan_anew, lambda same: same, state)

    def _plan_anew(self, state: PlannerState) -> PlannerState:
        key_plan, key_later = split(state.key)
        return state._replace(q=self.plan(key_plan, state.counts, state.q), key=key_later)


def finite_spec(env: Environment) -> EnvSpec:
    """The spec of an environment whose observations number finitely many states; others raise ``InputError``."""
    found = "real-valued observations"
    require(
        bool(env.spec.obs_nvec), f"environment {env.name}", found, "one with numbered states", "this agent needs it"
    )
    return env.spec
