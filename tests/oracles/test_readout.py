"""What logits follow: slopes in pulls and successes are found where they are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.registry import agents
from icrl.core.tasks import TaskSet
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.evaluation.diversity import agent_probs, model_probs
from icrl.evaluation.offline import recorded_contexts
from icrl.evaluation.readout import count_slopes, counts, log_probs
from icrl.evaluation.statistics import interval
from icrl.layouts.pairs import Pairs

ENV = BernoulliBandit(num_arms=4, horizon=30)


@pytest.fixture(scope="module")
def contexts():
    tasks = TaskSet.draw(ENV, 0, "offline", 300)
    return recorded_contexts(ENV, tasks, agents["uniform"].for_env(ENV), 30, 0).contexts


def test_known_slopes_are_found_whatever_all_arms_share(contexts):
    pulls, successes = counts(contexts.history, 4, 20)
    assert (pulls.sum(1) == 20).all() and (successes <= pulls).all()
    shared = np.random.default_rng(0).normal(size=(300, 1))
    np.testing.assert_allclose(count_slopes(2 * successes - 3 * pulls + shared, pulls, successes).mean(0), (-3, 2))


def test_their_interval_covers_what_is_drawn(contexts):
    pulls, successes = counts(contexts.history, 4, 30)
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        band = interval(count_slopes(successes + rng.normal(size=pulls.shape), pulls, successes)[None, :, 0]).band()
        hits += band["low"] <= 0.0 <= band["high"]
    assert 180 <= hits <= 198  # 95 % of 200, within four standard errors


class Counting:
    """A policy that reads tokens of ``pairs`` and says 5 S - n of each arm."""

    def __call__(self, tokens, start, carry):
        action, reward = tokens[:, 2:6], tokens[:, -1:]  # zeros in a query
        return jnp.cumsum(5 * action * reward - action, axis=0), None


def test_the_logits_of_a_model_are_those_behind_the_prefix(contexts):
    pulls, successes = counts(contexts.history, 4, 12)
    found = log_probs(model_probs(Pairs(ENV.spec), Counting(), contexts, jnp.array([3, 12])))[:, 1]
    logits = 5 * successes - pulls
    assert np.abs(logits - found).max() > 1  # a softmax keeps what all arms share to itself
    np.testing.assert_allclose(logits - logits.max(1)[:, None], found - found.max(1)[:, None], atol=1e-4)


def test_the_exact_posterior_gives_less_to_an_arm_that_was_pulled_in_vain(contexts):
    exact = agents["thompson-bernoulli"].for_env(ENV)
    logits = log_probs(agent_probs(exact, contexts, jnp.array([30])), 1e-6)[:, 0]
    slopes = count_slopes(logits, *counts(contexts.history, 4, 30)).mean(0)
    assert slopes[0] < -0.2 and slopes[1] > 0.5
