"""Hand-written faults, ten an agent: at least 95 % of them must be seen by the exact values of two Bernoulli arms.

A fault is a small change of an agent, or of the environment's keys, that leaves everything running. It is seen when
the check of ``test_exact_bandits`` turns red. The list is part of the test: add the fault that you once made.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_exact_bandits import ENV, GATE, STEPS, TASKS, simulate, z_scores

from icrl.agents._arm_agent import argmax_untried_first
from icrl.agents.kl_ucb import KLUCB, kl_upper
from icrl.agents.thompson_bernoulli import ThompsonBernoulli, beta_log_odds, log_gamma_draws
from icrl.agents.ucb1 import UCB1
from icrl.envs.bernoulli_bandit import BernoulliBandit


class SameNoise(BernoulliBandit):
    """One key for all steps of a task."""

    def draw_reward(self, key, mean, params):
        seed = jax.lax.bitcast_convert_type(params.means[0], jnp.uint32)
        return super().draw_reward(jax.random.key(seed), mean, params)


def with_methods(base, **methods):
    """An agent of ``base`` for two arms with some methods exchanged."""
    return type("Mutant", (base,), methods)(num_arms=2)


def by_index(base, index):
    """Every arm once, then the largest ``index(m, n, t)``; [2] each but t, pulls so far."""

    def act(self, key, state, obs):
        found = index(state.mean, jnp.maximum(state.count, 1), jnp.maximum(jnp.sum(state.count), 1))
        return argmax_untried_first(found, state.count)

    return with_methods(base, act=act)


def forgets_first(base):
    """The reward of an arm's first pull is lost."""

    def update(self, state, transition):
        new = base.update(self, state, transition)
        return new._replace(total=jnp.where(state.count == 0, 0.0, new.total))

    return with_methods(base, update=update)


def learns_every_second(base):
    """Every second pull counts as half a success, whatever came."""

    def update(self, state, transition):
        new = base.update(self, state, transition)
        skip = state.count.sum() % 2 == 1
        return new._replace(total=jnp.where(skip, state.total + (new.count - state.count) * 0.5, new.total))

    return with_methods(base, update=update)


def drawn_by(draw):
    """Thompson sampling with ``draw(key, a, b)`` -> [2] in place of the log-odds of Beta draws."""

    def act(self, key, state, obs):
        return jnp.argmax(draw(key, *self.posterior(state))).astype(jnp.int32)

    return with_methods(ThompsonBernoulli, act=act)


def normal_draw(key, a, b):
    mean = a / (a + b)
    return mean + jnp.sqrt(mean * (1 - mean) / (a + b + 1)) * jax.random.normal(key, (2,))


def one_sampled(key, a, b):
    return jnp.where(jnp.arange(2) == 0, beta_log_odds(key, a, b), jnp.log(a / b))


def reversed_kl(mean, budget):
    """The largest q with kl(q, m) <= budget, on a fine grid."""
    q = mean[:, None] + (1 - mean[:, None]) * jnp.linspace(0.0, 1.0, 400)
    m = jnp.clip(mean[:, None], 1e-6, 1 - 1e-6)
    kl = jax.scipy.special.xlogy(q, q / m) + jax.scipy.special.xlogy(1 - q, (1 - q) / (1 - m))
    return jnp.max(jnp.where(kl <= budget[:, None], q, mean[:, None]), axis=1)


def kl_in_three_halvings(m, n, t):
    exact = kl_upper(m, jnp.log(t) / n)
    return m + (1 - m) * jnp.floor((exact - m) / jnp.maximum(1 - m, 1e-6) * 8) / 8


def plain_posterior(self, state):
    return ThompsonBernoulli.posterior(self, state)


NOISY = SameNoise(num_arms=2, horizon=STEPS)
FAULTS = {
    "ucb1": {
        "noise key reused": (UCB1(num_arms=2), NOISY),
        "ln(t + 1)": by_index(UCB1, lambda m, n, t: m + jnp.sqrt(2 * jnp.log(t + 1.0) / n)),
        "scale 0.9": UCB1(num_arms=2, scale=0.9),
        "swapped counts": by_index(UCB1, lambda m, n, t: m + jnp.sqrt(2 * jnp.log(t) / n[::-1])),
        "own clock": by_index(UCB1, lambda m, n, t: m + jnp.sqrt(2 * jnp.log(n) / n)),
        "forgets first": forgets_first(UCB1),
        "log2 for ln": by_index(UCB1, lambda m, n, t: m + jnp.sqrt(2 * jnp.log2(t) / n)),
        "no root": by_index(UCB1, lambda m, n, t: m + 2 * jnp.log(t) / n),
        "n + 1": by_index(UCB1, lambda m, n, t: m + jnp.sqrt(2 * jnp.log(t) / (n + 1))),
        "stale": learns_every_second(UCB1),
    },
    "kl-ucb": {
        "noise key reused": (KLUCB(num_arms=2), NOISY),
        "ln(t + 1)": by_index(KLUCB, lambda m, n, t: kl_upper(m, jnp.log(t + 1.0) / n)),
        "c = 3": KLUCB(num_arms=2, c=3.0),
        "kl the other way round": by_index(KLUCB, lambda m, n, t: reversed_kl(m, jnp.log(t) / n)),
        "not divided by n": by_index(KLUCB, lambda m, n, t: kl_upper(m, jnp.log(t) * jnp.ones(2))),
        "swapped counts": by_index(KLUCB, lambda m, n, t: kl_upper(m, jnp.log(t) / n[::-1])),
        "Pinsker's bound": by_index(KLUCB, lambda m, n, t: m + jnp.sqrt(jnp.log(t) / (2 * n))),
        "three halvings": by_index(KLUCB, kl_in_three_halvings),
        "forgets first": forgets_first(KLUCB),
        "stale": learns_every_second(KLUCB),
    },
    "thompson": {
        "noise key reused": (ThompsonBernoulli(num_arms=2), NOISY),
        "same draws at every step": drawn_by(lambda key, a, b: beta_log_odds(jax.random.key(1), a, b)),
        "both arms on one draw": drawn_by(
            lambda key, a, b: jnp.stack([beta_log_odds(key, a[i : i + 1], b[i : i + 1])[0] for i in (0, 1)])
        ),
        "both gammas on one draw": drawn_by(lambda key, a, b: log_gamma_draws(key, a) - log_gamma_draws(key, b)),
        "swapped parameters": with_methods(
            ThompsonBernoulli, posterior=lambda self, state: plain_posterior(self, state)[::-1]
        ),
        "failures twice": with_methods(
            ThompsonBernoulli, posterior=lambda self, state: (1.0 + state.total, 1.0 + state.count)
        ),
        "prior Beta(2, 2)": ThompsonBernoulli(num_arms=2, prior_a=2.0, prior_b=2.0),
        "normal draws": drawn_by(normal_draw),
        "one arm not sampled": drawn_by(one_sampled),
        "stale": learns_every_second(ThompsonBernoulli),
    },
}


@pytest.mark.nightly
@pytest.mark.parametrize("num_tasks", [TASKS])
def test_at_least_95_of_100_faults_are_seen(num_tasks):
    missed = []
    for name, faults in FAULTS.items():
        assert len(faults) == 10
        for fault, agent in faults.items():
            agent, env = agent if isinstance(agent, tuple) else (agent, ENV)
            z = z_scores(name, *simulate(agent, env, num_tasks))
            print(f"{name}, {fault}: z = {np.round(z, 1)}", flush=True)
            if not np.nanmax(np.abs(z)) > GATE:
                missed.append(f"{name}, {fault}")
    total = sum(map(len, FAULTS.values()))
    assert len(missed) <= 0.05 * total, missed
