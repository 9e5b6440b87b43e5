"""Simulated agents against their exact expected reward: two Bernoulli arms, means U[0, 1] independently.

The oracle is float64 NumPy and shares nothing with the package. A policy that depends on the counts only is evaluated
by backward induction over posterior counts (s0, f0, s1, f1): the next reward of arm a is 1 with probability
(s_a + 1) / (s_a + f_a + 2).

Power at 1 000 000 tasks (nightly; a fifth of them otherwise, and z is less than half): the mean regret has a quarter
of the standard error of the mean reward. ln(t + 1) for ln t is seen at z = 17 (in the reward at -4), a key used twice
at z = 100. The gate is |z| <= 4.3.
"""

from functools import cache
from math import exp, inf, lgamma, log, nan, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.agents.bayes_optimal import BayesOptimal
from icrl.agents.gittins import Gittins
from icrl.agents.kl_ucb import KLUCB
from icrl.agents.moss import MOSS
from icrl.agents.thompson_bernoulli import ThompsonBernoulli
from icrl.agents.ucb1 import UCB1
from icrl.agents.ucb1_tuned import UCB1Tuned
from icrl.agents.uniform import Uniform
from icrl.core.interact import interact
from icrl.core.seeding import key_for, keys_for
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.planning.gittins import gittins_table

GATE = 4.3
TASKS, CHUNK, STEPS = 1_003_520, 4096, 25

# Expected total reward, computed once by other code: rounded to six digits.
KNOWN = {
    "bayes-optimal": {10: 6.021786, 25: 15.669635, 50: 31.996712},
    "greedy": {10: 6.005811, 25: 15.567872, 50: 31.660925},
    "thompson": {10: 5.704544, 25: 15.103872, 50: 31.207518},
    "ucb1": {10: 5.602189, 25: 14.538279, 50: 29.815238},
    "uniform": {10: 5.0, 25: 12.5, 50: 25.0},
}


# -- the oracle: policies give P(arm 0 | counts) ----------------------------------------------------------------------


def log_beta(a, b):
    return lgamma(a) + lgamma(b) - lgamma(a + b)


@cache
def thompson(s0, f0, s1, f1):
    """P(X > Y) for X ~ Beta(s0 + 1, f0 + 1), Y ~ Beta(s1 + 1, f1 + 1), a finite sum for whole parameters."""
    a, b, c, d = s0 + 1, f0 + 1, s1 + 1, f1 + 1
    terms = (log_beta(c + i, b + d) - log(b + i) - log_beta(1 + i, b) - log_beta(c, d) for i in range(a))
    return sum(map(exp, terms))


def ucb1(s0, f0, s1, f1):
    n0, n1 = s0 + f0, s1 + f1
    bonus = 2 * log(max(n0 + n1, 1))
    index0 = s0 / n0 + sqrt(bonus / n0) if n0 else inf
    index1 = s1 / n1 + sqrt(bonus / n1) if n1 else inf
    return float(index0 >= index1)


def greedy(s0, f0, s1, f1):
    cross = (s0 + 1) * (s1 + f1 + 2) - (s1 + 1) * (s0 + f0 + 2)
    return 0.5 if cross == 0 else float(cross > 0)


def uniform(*counts):
    return 0.5


def first_of(index):
    """The policy that plays arm 0 unless arm 1 has the larger ``index(s, f, t)``; untried arms come first."""

    def policy(s0, f0, s1, f1):
        t = s0 + f0 + s1 + f1
        index0, index1 = (index(s, f, t) if s + f else inf for s, f in ((s0, f0), (s1, f1)))
        return float(index0 >= index1)

    return policy


@cache
def kl_ucb_index(s, f, t):
    """Fifty halvings of [m, 1] for (s + f) kl(m, q) = ln t."""
    low, high = (m := s / (s + f)), 1.0
    for _ in range(50):
        q = (low + high) / 2
        kl = (m * log(m / q) if m > 0 else 0.0) + ((1 - m) * log((1 - m) / (1 - q)) if m < 1 else 0.0)
        low, high = (q, high) if (s + f) * kl <= log(t) else (low, q)
    return low


def ucb1_tuned_index(s, f, t):
    m, log_over_n = s / (s + f), log(t) / (s + f)
    return m + sqrt(log_over_n * min(1 / 4, m * (1 - m) + sqrt(2 * log_over_n)))


def moss_index(s, f, t):
    n = s + f
    return s / n + sqrt(max(log(STEPS / (2 * n)), 0.0) / n)


def gittins(s0, f0, s1, f1):
    table = gittins_table(0.9, STEPS)
    return float(table[s0, f0] >= table[s1, f1])


POLICIES = {
    "thompson": thompson,
    "ucb1": ucb1,
    "greedy": greedy,
    "uniform": uniform,
    "kl-ucb": first_of(kl_ucb_index),
    "ucb1-tuned": first_of(ucb1_tuned_index),
    "moss": first_of(moss_index),
    "gittins": gittins,
}


def exact_reward(policy, horizon):
    """Expected total reward of ``policy``; the Bayes-optimal one when it is None."""

    @cache
    def value(s0, f0, s1, f1):
        if s0 + f0 + s1 + f1 == horizon:
            return 0.0
        p0, p1 = (s0 + 1) / (s0 + f0 + 2), (s1 + 1) / (s1 + f1 + 2)
        arm0 = p0 * (1 + value(s0 + 1, f0, s1, f1)) + (1 - p0) * value(s0, f0 + 1, s1, f1)
        arm1 = p1 * (1 + value(s0, f0, s1 + 1, f1)) + (1 - p1) * value(s0, f0, s1, f1 + 1)
        if policy is None:
            return max(arm0, arm1)
        chosen = policy(s0, f0, s1, f1)
        return chosen * arm0 + (1 - chosen) * arm1

    return value(0, 0, 0, 0)


@cache
def exact_rewards(name):
    """After 10 and after 25 pulls; the optimum for 25 pulls is another policy than that for 10."""
    if name == "bayes-optimal":
        return np.array([nan, exact_reward(None, 25)])
    return np.array([exact_reward(POLICIES[name], horizon) for horizon in (10, 25)])


@pytest.mark.parametrize("horizon", [10, 25, pytest.param(50, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", KNOWN)
def test_oracle_gives_the_known_constants(name, horizon):
    assert exact_reward(POLICIES.get(name), horizon) == pytest.approx(KNOWN[name][horizon], abs=1e-6)


def test_oracle_in_closed_form():
    assert exact_reward(None, 2) == pytest.approx(13 / 12, abs=1e-12)
    assert thompson(0, 0, 0, 0) == pytest.approx(1 / 2, abs=1e-12)
    assert thompson(1, 0, 0, 0) == pytest.approx(2 / 3, abs=1e-12)
    assert thompson(3, 4, 7, 1) + thompson(7, 1, 3, 4) == pytest.approx(1, abs=1e-12)


# -- the simulation ---------------------------------------------------------------------------------------------------


class Greedy(ThompsonBernoulli):
    """Always the larger posterior mean, ties split."""

    def act(self, key, state, obs):
        return self.act_greedy(key, state, obs)


ENV = BernoulliBandit(num_arms=2, horizon=STEPS)
AGENTS = {
    "thompson": ThompsonBernoulli(num_arms=2),
    "ucb1": UCB1(num_arms=2),
    "greedy": Greedy(num_arms=2),
    "uniform": Uniform(num_arms=2),
    "kl-ucb": KLUCB(num_arms=2),
    "ucb1-tuned": UCB1Tuned(num_arms=2),
    "moss": MOSS(num_arms=2, horizon=25.0),
    "gittins": Gittins(num_arms=2, discount=0.9, max_pulls=STEPS),
    "bayes-optimal": BayesOptimal(num_arms=2, horizon=STEPS),
}


def simulate(agent, env=ENV, num_tasks=TASKS, seed=0):
    """Total reward and total regret [num_tasks, 2], after 10 and after 25 steps of the same lives, float64."""
    key_tasks, key_lives = key_for(seed, "exact tasks"), key_for(seed, "exact lives")

    def life(key_task, key_life):
        curves = interact(key_life, env, env.sample_task(key_task), agent, STEPS).curves
        return jnp.stack([jnp.stack([curve[:10].sum(), curve.sum()]) for curve in curves])

    def chunk(first):
        ids = first + jnp.arange(CHUNK, dtype=jnp.uint32)
        return jax.vmap(life)(keys_for(key_tasks, ids), keys_for(key_lives, ids))

    totals = jax.jit(lambda: jax.lax.map(chunk, jnp.arange(0, num_tasks, CHUNK, dtype=jnp.uint32)))()
    totals = np.asarray(totals, np.float64).reshape(-1, 2, 2)
    return totals[:, 0], totals[:, 1]


def z_scores(name, reward, regret):
    """Of mean reward and mean regret after 10 and 25 steps against the exact values; [4], NaN where none is known."""
    exact = exact_rewards(name)
    oracle = np.array([10, 25]) * 2 / 3
    found = np.concatenate([reward.mean(0) - exact, regret.mean(0) - (oracle - exact)])
    return found / (np.concatenate([reward.std(0), regret.std(0)]) / np.sqrt(len(reward)))


@pytest.mark.parametrize("num_tasks", [TASKS // 5, pytest.param(TASKS, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", AGENTS)
def test_simulated_agents_earn_their_exact_reward(name, num_tasks):
    reward, regret = simulate(AGENTS[name], num_tasks=num_tasks)
    z = z_scores(name, reward, regret)
    print(name, exact_rewards(name), np.round(z, 2))
    assert np.nanmax(np.abs(z)) <= GATE
    best = np.array([KNOWN["bayes-optimal"][10], KNOWN["bayes-optimal"][25]])
    assert np.all(reward.mean(0) <= best + GATE * reward.std(0) / np.sqrt(len(reward)))
