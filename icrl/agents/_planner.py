"""What agents that plan in a tabular model share: counts of all that happened, one plan an episode."""

import abc
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from icrl.agents._arm_agent import argmax_random_ties
from icrl.agents._clock import next_step
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.precision import in_32_bits
from icrl.core.threefry import split
from icrl.core.types import Agent, Array, Environment, EnvSpec, Transition

MAX_STATES = 2**14  # of which a table is kept


class Counts(NamedTuple):
    """Sufficient statistics of the transitions seen, at whatever step of an episode."""

    visits: Array  # [S, K, S] int32, transitions seen that did not terminate the episode
    reward: Array  # [S, K] float32, sum of rewards, of all transitions
    ends: Array  # [S, K] int32, transitions seen that did: into a sink whose value is 0

    @property
    def tries(self) -> Array:
        """n(s, a), [S, K] int32."""
        return self.visits.sum(-1, dtype=jnp.int32) + self.ends

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

    A subclass says how ``plan`` makes values of counts. Transitions and rewards are taken to depend on the observation
    and the action alone: not on the step, and not on what is hidden. Where observations are not states
    (``EnvSpec.observes_state``: the key of ``DarkKeyToDoor-v0``, whether ``DarkRoomHard-v0`` has paid, all of a POMDP)
    a plan is one for the average of what was seen, and planners play only if they are named. Ties are broken at random.
    Needs observations that number finitely many states.

    A plan is one for H = ``max_steps_in_episode`` steps. An episode is over when it is terminated or truncated, at the
    latest after H steps, and the next begins at step 0 of a new plan. What follows a termination is worth 0. Of a time
    limit before H nothing is learned but the transition, so plans go on looking H steps ahead. Episodes that end at
    different steps in different tasks cost each of the tasks side by side a plan at every step.
    """

    needs_state = True

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
        counts = Counts(visits, reward, jnp.zeros((states, actions), jnp.int32))
        nothing = jnp.full((self.spec.max_steps_in_episode, states, actions), jnp.inf, jnp.float32)
        return PlannerState(counts, self.plan(key_plan, counts, nothing), jnp.int32(0), key_later)

    def act(self, key: Array, state: PlannerState, obs: Array) -> Array:
        return argmax_random_ties(key, state.q[state.step, self.spec.state_index(obs)])

    @in_32_bits
    def update(self, state: PlannerState, transition: Transition) -> PlannerState:
        step, over = next_step(self.spec.max_steps_in_episode, state.step, transition)
        state = state._replace(counts=self.counted(state.counts, transition), step=step)
        # where episodes last H steps ``over`` is the same for all tasks side by side: they plan together and only then
        return jax.lax.cond(over, self._plan_anew, lambda same: same, state)

    def counted(self, counts: Counts, transition: Transition) -> Counts:
        """``counts`` with one transition more."""
        here, there = self.spec.state_index(transition.obs), self.spec.state_index(transition.next_obs)
        pair, ended = (here, transition.action), transition.terminated.astype(jnp.int32)
        return Counts(
            visits=counts.visits.at[*pair, there].add(1 - ended),
            reward=counts.reward.at[pair].add(transition.reward),
            ends=counts.ends.at[pair].add(ended),
        )

    def _plan_anew(self, state: PlannerState) -> PlannerState:
        key_plan, key_later = split(state.key)
        return state._replace(q=self.plan(key_plan, state.counts, state.q), key=key_later)


def finite_spec(env: Environment) -> EnvSpec:
    """The spec of an environment whose observations number few enough states; others raise ``InputError``."""
    where, allowed = f"environment {env.name}", f"one with numbered states, at most {MAX_STATES:,}"
    states = env.spec.num_states or 0
    found = f"{states:.3g} states" if states else "real-valued observations"
    require(0 < states <= MAX_STATES, where, found, allowed, "this agent needs a table of them")
    return env.spec
