"""Bayes-optimal play in short Bernoulli bandits: the most reward any agent can earn on average over the prior."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmAgent, ArmStats
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Environment, Transition
from icrl.planning.beta_bandit import bayes_optimal, count_graph


class Node(NamedTuple):
    """Where an agent stands among all counts of the arms."""

    arms: ArmStats
    node: Array  # [] int32, of ``count_graph``


@agents.register("bayes-optimal", paper="Bellman 1956")
@struct.dataclass
class BayesOptimal(ArmAgent):
    """Plays the argmax of exact backward induction for ``horizon`` pulls, mu_a ~ Beta(prior_a, prior_b).

    Bellman 1956, A Problem in the Sequential Design of Experiments. Rewards must be 0 or 1, and K and T small: 2 arms
    and 100 pulls, 5 and 20, 10 and 11. Every history has its node, also one that others chose. After T pulls in all it
    plays the arm whose mean was the largest then. Of arms that are equally good it plays the one tried less.

    T is an episode and the prior is read off the environment, else uniform. Settings shape the tables, so that none of
    them can be swept; ``icrl.planning.beta_bandit.bayes_optimal`` has the value.
    """

    horizon: int = setting(10, low=1, high=2**31, static=True, help="T, pulls in all")
    prior_a: float = setting(1.0, low=0.0, open_low=True, static=True, help="a of the prior Beta(a, b)")
    prior_b: float = setting(1.0, low=0.0, open_low=True, static=True, help="b of the prior Beta(a, b)")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        require(env.spec.is_stationary_bandit, "environment", env.name, "a stationary bandit", "this agent needs one")
        known = {"horizon": env.spec.max_steps_in_episode}
        known |= env.facts("prior_a", "prior_b")
        agent = super().for_env(env, **{**known, **settings})
        bayes_optimal(agent.num_arms, agent.horizon, agent.prior_a, agent.prior_b)  # refuses what is too large
        return agent

    def init(self, key: Array) -> Node:
        return Node(self.no_pulls(), jnp.int32(0))

    def act(self, key: Array, state: Node, obs: Array) -> Array:
        del key, obs
        _, best = bayes_optimal(self.num_arms, self.horizon, self.prior_a, self.prior_b)
        return jnp.argsort(self.codes(state.arms))[jnp.asarray(best)[state.node]].astype(jnp.int32)

    def update(self, state: Node, transition: Transition) -> Node:
        codes = self.codes(state.arms)
        pulled = jnp.sum(jnp.where(jnp.arange(self.num_arms) == transition.action, codes, 0))
        rank = jnp.sum(codes < pulled)  # the first of the arms with equal counts, whose node is the same
        child = jnp.asarray(count_graph(self.num_arms, self.horizon).child)
        won = (transition.reward > 0.5).astype(jnp.int32)
        return Node(self.count_pull(state.arms, transition), child[state.node, rank, won])

    def codes(self, arms: ArmStats) -> Array:
        """The code of every arm's counts, [K] int32, as in ``count_graph``."""
        return arms.count * (arms.count + 1) // 2 + jnp.round(arms.total).astype(jnp.int32)
