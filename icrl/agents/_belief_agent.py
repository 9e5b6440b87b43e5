"""What agents share that keep an exact belief over (task, state) of a finite POMDP."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp

from icrl.agents._clock import next_step
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import check_array
from icrl.core.types import Agent, Array, Environment, EnvSpec, Transition
from icrl.planning.belief import prior, seen_first, spread, task_posterior, updated
from icrl.planning.pomdp import Tables, mdp_values


class BeliefState(NamedTuple):
    """What is known, and when it is."""

    belief: Array  # [S] float32; at step 0 that before the first observation of the episode
    step: Array  # [] int32 in 0 .. H - 1, steps done in the episode
    episode: Array  # [] int32, episodes that are over


@struct.dataclass
class BeliefAgent(Agent):
    """Base of agents that act upon the exact posterior over task and state, given all of the trial so far.

    Observations, rewards and ends of episodes are all evidence. An episode is over when it is terminated or truncated,
    at the latest after H steps; then a state is drawn anew and what is known of the task stays. Tasks are equally
    likely at first. A step that is impossible under every task (of another environment, or a reward with noise) begins
    the belief again. Needs a finite POMDP with known tables (``Environment.pomdp``).
    """

    spec: EnvSpec = struct.field(pytree_node=False)
    tables: Tables  # in 32 bits

    def init(self, key: Array) -> BeliefState:
        del key
        return BeliefState(prior(self.tables), jnp.int32(0), jnp.int32(0))

    def belief(self, state: BeliefState, obs: Array) -> Array:
        """The belief [S] float32 at the observation ``obs`` [*O], of which a first one is still to be counted."""
        first = seen_first(self.tables, state.belief, self.spec.state_index(obs))
        is_new = (state.step == 0) & (jnp.sum(first) > 0.0)
        return jnp.where(is_new, first, state.belief)

    def update(self, state: BeliefState, transition: Transition) -> BeliefState:
        before, seen = self.belief(state, transition.obs), self.spec.state_index(transition.next_obs)
        after = updated(self.tables, before, transition.action, transition.reward, seen, transition.terminated)
        after = jnp.where(jnp.sum(after) > 0.0, after, prior(self.tables))
        step, over = next_step(self.spec.max_steps_in_episode, state.step, transition)
        begun = spread(self.tables, task_posterior(self.tables, after))
        return BeliefState(jnp.where(over, begun, after), step, state.episode + over)


@struct.dataclass
class StateValueAgent(BeliefAgent):
    """Base of those that weigh by the belief what one who sees the state would earn."""

    q: Array = struct.field(kw_only=True)  # Q* [H, S, K] float32, of one who sees the state

    def __post_init__(self) -> None:
        super().__post_init__()
        check_array("q", self.q, (None, None, None))

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        q = mdp_values(tables_of(env), env.spec.max_steps_in_episode)
        return cls(**{**known(env), "q": q, **settings})


def tables_of(env: Environment) -> Tables:
    """The tables of an environment that is a finite POMDP; others raise ``InputError``."""
    hint = "this agent needs the tables of a finite POMDP"
    require(env.pomdp is not None, f"environment {env.name}", "no known tables", "a finite POMDP", hint)
    found: Tables = env.pomdp
    return found


def known(env: Environment) -> dict[str, Any]:
    """The fields of ``BeliefAgent`` for ``env``."""
    return {"spec": env.spec, "tables": tables_of(env).in_32_bits()}
