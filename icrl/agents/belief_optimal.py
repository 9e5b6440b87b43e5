"""The belief-optimal agent: all that can be earned in an episode of a small POMDP whose state is hidden."""

import functools
from typing import Any, Self

import jax.numpy as jnp

from icrl.agents._belief_agent import BeliefAgent, BeliefState, known, tables_of
from icrl.core import struct
from icrl.core.errors import InputError
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Environment
from icrl.planning.alpha_vectors import Plan, padded, plan_at, plan_everywhere
from icrl.planning.bounds import start_value
from icrl.planning.reachable_beliefs import reachable

FEW_STATES, FEW_STEPS = 8, 6  # of a POMDP that is planned for the whole simplex


@agents.register("belief-optimal", paper="Smallwood, Sondik 1973")
@struct.dataclass
class BeliefOptimal(BeliefAgent):
    """Plays the argmax of exact finite-horizon value iteration, at the belief over (task, state) and the step.

    With ``episodes`` 1 it is optimal in the episode under way: no policy that sees observations, rewards and ends has a
    larger expected return of that episode, given all that the trial has shown so far. In a family of one task that is
    the most that can be earned in any number of episodes. In a family of several it need not be: for what an episode
    teaches of the task it pays nothing beyond that episode. With ``episodes`` E it is optimal in a trial of E episodes
    of any family, in which it may give up reward for what it learns; later it plays as in the E-th of them.
    ``plan.value`` is the expected return of the first episode, or of the E. Later rewards, of whatever episode, are
    discounted by ``discount``.

    The plan is exact at all beliefs that can occur. These are counted, or the whole simplex is planned for; where both
    are too many, the POMDP is refused, and ``point-based`` plays there. Settings shape the plan, so that none of
    them can be swept.
    """

    plan: Plan
    discount: float = setting(1.0, low=0.0, high=1.0, static=True, help="discount of later rewards")
    episodes: int = setting(1, low=1, high=1000, static=True, help="E, episodes whose returns are maximised together")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        tables_of(env)
        made = cls(**{**known(env), "plan": Plan.none(), **settings})  # refuses bad settings before anything is planned
        return made if "plan" in settings else made.replace(plan=_plan(env, float(made.discount), made.episodes))  # type: ignore[attr-defined, no-any-return]

    def act(self, key: Array, state: BeliefState, obs: Array) -> Array:
        del key
        episode = jnp.minimum(state.episode, self.episodes - 1)
        step = episode * self.spec.max_steps_in_episode + state.step
        return best_action(self.plan, self.belief(state, obs), step)


def best_action(plan: Plan, belief: Array, step: Array) -> Array:
    """The action of the vector that is best at ``belief`` [S] at a step of the episode, [] int32."""
    values = jnp.sum(jnp.asarray(plan.alphas)[step] * belief[None], axis=-1)
    return jnp.asarray(plan.actions)[step, jnp.argmax(values)]


@functools.lru_cache(maxsize=32)
def _plan(env: Environment, discount: float, episodes: int) -> Plan:
    """The exact plan; ``InputError`` where it is too large."""
    tables, horizon = tables_of(env), env.spec.max_steps_in_episode
    beliefs = reachable(tables, horizon, episodes)
    if beliefs is not None:
        sets = plan_at(tables, beliefs, horizon, discount)
    elif tables.num_states <= FEW_STATES and horizon <= FEW_STEPS and episodes == 1:
        sets = plan_everywhere(tables, horizon, discount)
    else:
        raise InputError(
            f"environment {env.name}: got {tables.num_states} states, {horizon} steps and {episodes} episodes, "
            "allowed: a POMDP with few beliefs (this agent needs an exact plan; point-based plays here)"
        )
    value = start_value(tables, sets[0][0])
    return padded(sets, value, value)
