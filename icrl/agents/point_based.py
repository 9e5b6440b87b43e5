"""A plan at sampled beliefs, for POMDPs too large for an exact one, and how far it may be from the best."""

import functools
from typing import Any, Self

from icrl.agents._belief_agent import BeliefAgent, BeliefState, known, tables_of
from icrl.agents.belief_optimal import best_action
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Environment
from icrl.planning.alpha_vectors import Plan, padded
from icrl.planning.bounds import point_based


@agents.register("point-based", paper="Pineau et al. 2003")
@struct.dataclass
class PointBased(BeliefAgent):
    """Plays the argmax over alpha vectors backed up at sampled beliefs (PBVI), each step of an episode with its own.

    In the first episode it earns ``plan.value`` on average at least, and the optimum is at most ``plan.upper``, the
    fast informed bound of Hauskrecht 2000: the gap is the difference. Beliefs are those along ``num_beliefs`` random
    ways through a trial, three times, first near to QMDP and then to the plan so far.
    """

    plan: Plan
    num_beliefs: int = setting(50, low=1, high=10_000, static=True, help="random ways through a trial, three times")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        tables_of(env)
        made = cls(**{**known(env), "plan": Plan.none(), **settings})  # refuses bad settings before anything is planned
        return made if "plan" in settings else made.replace(plan=_plan(env, made.num_beliefs))  # type: ignore[attr-defined, no-any-return]

    def act(self, key: Array, state: BeliefState, obs: Array) -> Array:
        del key
        return best_action(self.plan, self.belief(state, obs), state.step)


@functools.lru_cache(maxsize=32)
def _plan(env: Environment, num_beliefs: int) -> Plan:
    tables = tables_of(env)
    sets, bounds = point_based(tables, env.spec.max_steps_in_episode, num_beliefs)
    return padded(sets, bounds.lower, bounds.upper)
