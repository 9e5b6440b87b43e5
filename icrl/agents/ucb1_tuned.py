"""UCB1-tuned (Auer, Cesa-Bianchi, Fischer 2002, Finite-time Analysis of the Multiarmed Bandit Problem, section 4)."""

from typing import NamedTuple

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmAgent, ArmStats, argmax_untried_first
from icrl.core import struct
from icrl.core.registry import agents
from icrl.core.types import Array, Transition


class SpreadStats(NamedTuple):
    """Arm statistics with the spread of the rewards."""

    arms: ArmStats
    spread: Array  # [K] float32, sum of squared deviations from the arm's mean


@agents.register("ucb1-tuned", paper="Auer et al. 2002")
@struct.dataclass
class UCB1Tuned(ArmAgent):
    """argmax m_a + sqrt(ln t / n_a min(1/4, v_a + sqrt(2 ln t / n_a))), v_a the variance of the arm's rewards so far.

    t pulls so far in all, every arm once first. For rewards in [0, 1], whose variance is at most 1/4. No bound is
    known; the authors found it better than UCB1 throughout.
    """

    def init(self, key: Array) -> SpreadStats:
        return SpreadStats(self.no_pulls(), jnp.zeros(self.num_arms, jnp.float32))

    def act(self, key: Array, state: SpreadStats, obs: Array) -> Array:
        del key, obs
        n = jnp.maximum(state.arms.count, 1)
        log_over_n = jnp.log(jnp.maximum(jnp.sum(state.arms.count), 1)) / n
        variance = state.spread / n + jnp.sqrt(2.0 * log_over_n)
        return argmax_untried_first(
            state.arms.mean + jnp.sqrt(log_over_n * jnp.minimum(0.25, variance)), state.arms.count
        )

    def update(self, state: SpreadStats, transition: Transition) -> SpreadStats:
        arms = self.count_pull(state.arms, transition)
        # Welford's form: the difference of two large sums would lose the spread in float32
        product = (transition.reward - state.arms.mean) * (transition.reward - arms.mean)
        pulled = jnp.arange(self.num_arms) == transition.action
        return SpreadStats(arms, state.spread + jnp.where(pulled, product, 0.0))
