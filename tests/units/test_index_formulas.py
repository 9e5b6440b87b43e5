"""Bonuses and fading of agents that no twin stands beside: one state, worked out from the papers' formulas."""

import jax
import jax.numpy as jnp
import numpy as np

from icrl.agents._arm_agent import ArmStats
from icrl.agents.discounted_ucb import DiscountedUCB
from icrl.agents.exp3 import Exp3
from icrl.agents.moss import MOSS
from icrl.core.types import Transition


def test_moss_gives_no_bonus_to_an_arm_that_had_its_share_of_the_pulls():
    """K = 2, T = 20: ln(T / (K n)) is 0 at n = 10; at n = 5 the bonus is sqrt(ln 2 / 5) = 0.372."""
    agent, counts = MOSS(num_arms=2, horizon=20.0), jnp.array([10, 5])
    for means, best in (([0.5, 0.12], 0), ([0.5, 0.14], 1)):
        state = ArmStats(counts, jnp.array(means) * counts)
        assert agent.act(jax.random.key(0), state, jnp.ones(1)) == best


def paid(action, reward):
    """What a pull leaves behind."""
    obs, no = jnp.ones(1), jnp.bool_(False)
    return Transition(obs, jnp.int32(action), jnp.float32(reward), obs, no, no)


def test_exp3_divides_a_reward_by_the_probability_of_its_arm():
    """K = 2, gamma = 0.5: p = (0.5, 0.5), then (0.561, 0.439); ln w_a grows by gamma r / (p_a K)."""
    agent = Exp3(num_arms=2, gamma=0.5)
    state = agent.update(agent.init(jax.random.key(0)), paid(0, 1.0))
    np.testing.assert_allclose(state, [0.0, -0.5], atol=1e-6)
    np.testing.assert_allclose(agent.update(state, paid(1, 0.8)), [0.0, -0.5 + 0.5 * 0.8 / 0.43877 / 2], atol=1e-5)


def test_all_counts_and_sums_of_discounted_ucb_fade_at_every_step():
    agent = DiscountedUCB(num_arms=2, discount=0.5)
    state = agent.init(jax.random.key(0))
    for action, reward in ((0, 1.0), (1, 0.25), (1, 0.5)):
        state = agent.update(state, paid(action, reward))
    np.testing.assert_allclose(state.count, [0.25, 1.5])
    np.testing.assert_allclose(state.total, [0.25, 0.625])
