"""Off-policy values against exact ones: unbiased within noise, and intervals that cover what they claim."""

import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.evaluation.off_policy import Log, off_policy_value, predicted_rewards

K, CONTEXTS = 3, 5
RNG = np.random.default_rng(20261130)
X = RNG.normal(size=(CONTEXTS, 2))
MEANS = RNG.uniform(0.1, 0.9, (CONTEXTS, K))  # Bernoulli rewards, not linear in the context
LOGGING = 0.2 / K + 0.8 * RNG.dirichlet(np.ones(K), CONTEXTS)  # every action with 1 / 15 or more
TARGET = RNG.dirichlet(np.ones(K), CONTEXTS)
TRUTH = float((TARGET * MEANS).sum(1).mean())


def simulated(draw, count):
    """A log of ``count`` decisions in uniform contexts, and which context each was in."""
    context = draw.integers(CONTEXTS, size=count)
    action = (draw.random((count, 1)) > LOGGING.cumsum(1)[context]).sum(1).clip(0, K - 1)
    reward = (draw.random(count) < MEANS[context, action]) * 1.0
    return Log(X[context], action, reward, LOGGING[context, action]), context


def coverage(runs, count):
    """Per estimator: its errors [runs] and how often its interval has the truth."""
    errors, covered = {}, {}
    for run in range(runs):
        log, context = simulated(np.random.default_rng([7, run]), count)
        found = off_policy_value(log, TARGET[context])
        for name in ("ips", "snips", "dr"):
            each = getattr(found, name)
            errors.setdefault(name, []).append(float(each.mean) - TRUTH)
            covered.setdefault(name, []).append(bool(each.low <= TRUTH <= each.high))
    return {name: np.array(each) for name, each in errors.items()}, {n: np.mean(c) for n, c in covered.items()}


@pytest.mark.parametrize(
    ("runs", "count", "low", "high"),
    [(400, 500, 0.92, 0.98), pytest.param(4000, 1000, 0.93, 0.97, marks=pytest.mark.nightly)],
)
def test_values_are_unbiased_and_intervals_cover(runs, count, low, high):
    errors, covered = coverage(runs, count)
    for name, each in errors.items():
        bias, error = each.mean(), each.std() / np.sqrt(runs)
        print(f"{name}: bias {bias:+.5f}, {bias / error:+.2f} s.e., covers {covered[name]:.1%}")
    for name, each in errors.items():
        assert abs(each.mean()) <= 2 * each.std() / np.sqrt(runs), name
        assert low <= covered[name] <= high, name
    assert errors["snips"].std() < errors["ips"].std() and errors["dr"].std() < errors["ips"].std()


def test_the_logging_policy_is_worth_what_it_earned():
    log, context = simulated(np.random.default_rng(0), 300)
    found = off_policy_value(log, LOGGING[context])
    assert found.effective == pytest.approx(300) and found.ips.mean == pytest.approx(log.reward.mean())
    assert found.snips.mean == pytest.approx(log.reward.mean())


def test_the_formulas_by_hand():
    log = Log(np.zeros((4, 1)), np.array([0, 1, 1, 0]), np.array([1.0, 0.0, 2.0, 3.0]), np.array([0.5, 0.5, 0.25, 1.0]))
    pi, q = np.array([[0.5, 0.5], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]), np.full((4, 2), [0.5, 1.0])
    weight = np.array([1.0, 2.0, 2.0, 1.0])
    found = off_policy_value(log, pi, q)
    assert found.ips.mean == pytest.approx((1 + 0 + 4 + 3) / 4)
    assert found.snips.mean == pytest.approx(8 / 6)
    robust = [0.75 + 1 * 0.5, 1.0 - 2 * 1.0, 0.75 + 2 * 1.0, 0.5 + 1 * 2.5]
    assert found.dr.mean == pytest.approx(np.mean(robust))
    assert found.effective == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


def test_predictions_do_not_see_their_own_reward():
    log, _ = simulated(np.random.default_rng(1), 60)
    changed = log.reward.copy()
    changed[10] += 5
    before, after = (predicted_rewards(each, K) for each in (log, log._replace(reward=changed)))
    np.testing.assert_array_equal(before[::2], after[::2])  # 10 is in the even half, whose fit is of the odd one
    assert (before[1::2] != after[1::2]).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"propensity": np.r_[np.full(9, 0.5), 0.0]}, r"log.propensity\[9\]: got 0.0, allowed: a number in \(0, 1\]"),
        ({"propensity": np.full(9, 0.5)}, "log.propensity: got '9 rows', allowed: 10"),
        ({"reward": np.full(10, np.nan)}, "log.reward"),
        ({"action": np.full(10, 3)}, r"log.action: got '3..3', allowed: integers in \[0, 2\]"),
        ({"action": np.zeros(10)}, "log.action: got 'float64"),
    ],
)
def test_a_bad_log_is_refused(change, said):
    log = Log(np.zeros((10, 1)), np.zeros(10, int), np.zeros(10), np.full(10, 0.5))._replace(**change)
    with pytest.raises(InputError, match=said):
        off_policy_value(log, np.full((10, K), 1 / K))


def test_a_policy_that_is_none_or_that_the_log_never_plays_is_refused():
    log = Log(np.zeros((10, 1)), np.zeros(10, int), np.zeros(10), np.full(10, 0.5))
    with pytest.raises(InputError, match="policy: got 'other numbers', allowed: probabilities"):
        off_policy_value(log, np.full((10, K), 0.5))
    with pytest.raises(InputError, match="policy: got 'no action of the log'"):
        off_policy_value(log, np.tile([0.0, 1.0, 0.0], (10, 1)))
