"""Exact constants of the bandit literature, to four digits or to all that are printed."""

import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.planning.beta_bandit import bayes_optimal, count_graph, expected_reward, num_nodes, success_prob
from icrl.planning.divergence import bernoulli_kl, kl_upper, lai_robbins_bernoulli, lai_robbins_gaussian
from icrl.planning.gittins import gittins_table

# Rows b = 1 .. 5 over a = 1 .. 7 at discount 0.9, as printed in the tables of Gittins; then by other code.
GITTINS_09 = [
    [0.7029, 0.8001, 0.8452, 0.8723, 0.8905, 0.9039, 0.9141],
    [0.5001, 0.6346, 0.7072, 0.7539, 0.7869, 0.8115, 0.8307],
    [0.3796, 0.5163, 0.6010, 0.6579, 0.6996, 0.7318, 0.7573],
    [0.3021, 0.4342, 0.5184, 0.5809, 0.6276, 0.6642, 0.6940],
    [0.2488, 0.3720, 0.4561, 0.5179, 0.5676, 0.6071, 0.6395],
]
GITTINS = {  # discount: index of Beta(1, 1), (2, 1), (1, 2) and (2, 2)
    0.5: (0.5590, 0.7060, 0.3758),
    0.95: (0.7614, 0.8381, 0.5601, 0.6810),
    0.99: (0.8699, 0.9102, 0.7005, 0.7844),
}
BAYES_OPTIMAL = {  # (K, T): expected successes under uniform priors
    (2, 1): 0.5, (2, 2): 13 / 12, (2, 3): 1.666667, (2, 4): 2.277778, (2, 5): 2.888889, (2, 10): 6.021786,
    (2, 15): 9.211539, (2, 20): 12.431265, (2, 25): 15.669635, (2, 50): 31.996712, (2, 100): 64.918421,
    (3, 5): 3.006944, (3, 10): 6.409643, (3, 15): 9.912538, (5, 5): 3.052083, (5, 10): 6.659988, (5, 12): 8.154410,
    (10, 10): 6.713951,
}  # fmt: skip
KL_UPPER = {
    (0.1, 0.2): 0.378391, (0.5, 0.2): 0.787088, (0.9, 0.2): 0.994489, (0.1, 0.4): 0.519475,
    (0.5, 0.4): 0.871035, (0.9, 0.4): 0.999285, (0.1, 0.9): 0.734714, (0.5, 0.9): 0.956809,
}  # fmt: skip
LAI_ROBBINS = {  # the test bed of Auer et al. 2002 and a last one, three decimals
    (0.9, 0.8): 2.252,
    (0.9, 0.6): 0.964,
    (0.55, 0.45): 4.983,
    (0.9, *[0.6] * 9): 8.675,
    (0.9, *[0.8] * 9): 20.269,
    (0.9, *[0.8] * 3, *[0.7] * 3, *[0.6] * 3): 13.553,
    (0.55, *[0.45] * 9): 44.850,
    (0.1, *[0.05] * 3, *[0.02] * 3, *[0.01] * 3): 17.445,
}


def test_gittins_index_at_discount_09():
    np.testing.assert_allclose(gittins_table(0.9, 10)[:7, :5].T, GITTINS_09, atol=1e-4)


@pytest.mark.parametrize("discount", [0.5, 0.95, pytest.param(0.99, marks=pytest.mark.nightly)])
def test_gittins_index(discount):
    table = gittins_table(discount, 2)
    found = [table[0, 0], table[1, 0], table[0, 1], table[1, 1]][: len(GITTINS[discount])]
    np.testing.assert_allclose(found, GITTINS[discount], atol=1e-4)


def test_gittins_index_knows_the_prior_and_its_limits():
    """Beta(3, 2) before a pull is Beta(1, 1) after two successes and a failure; without a future it is the mean."""
    assert gittins_table(0.9, 0, 3.0, 2.0)[0, 0] == pytest.approx(gittins_table(0.9, 3)[2, 1], abs=1e-6)
    myopic = gittins_table(0.0, 3)
    assert myopic[2, 1] == pytest.approx(3 / 5, abs=1e-6)
    assert np.isnan(myopic[2, 2])  # four pulls
    index = gittins_table(0.9, 10)
    successes, failures = np.nonzero(~np.isnan(index))
    assert np.all(index[successes, failures] > (1 + successes) / (2 + successes + failures))


def by_day(size):
    return pytest.param(size, id=str(size), marks=pytest.mark.nightly if size == (2, 100) else ())


@pytest.mark.parametrize("size", [by_day(size) for size in BAYES_OPTIMAL])
def test_bayes_optimal_value(size):
    value, _ = bayes_optimal(*size)
    assert value[0] == pytest.approx(BAYES_OPTIMAL[size], abs=1e-6)


def test_bayes_optimal_knows_the_prior():
    """One arm earns T a / (a + b); two arms and two pulls by hand: after a failure of Beta(1, 2) change arms."""
    assert bayes_optimal(1, 7, 2.0, 3.0)[0][0] == pytest.approx(7 * 0.4, abs=1e-12)
    by_hand = 1 / 3 * (1 + 2 / 4) + 2 / 3 * (1 / 3)
    assert bayes_optimal(2, 2, 1.0, 2.0)[0][0] == pytest.approx(by_hand, abs=1e-12)


def test_count_graph_is_what_it_says():
    graph = count_graph(3, 4)
    assert len(graph.codes) == num_nodes(3, 4) == graph.first[-1]
    assert np.all(np.diff(graph.codes, axis=1) >= 0)
    assert len({tuple(row) for row in graph.codes}) == len(graph.codes)
    for node, rank, won in ((0, 2, 1), (5, 0, 0), (20, 1, 1)):
        code = graph.codes[node].copy()
        pulls = int((np.sqrt(8 * code[rank] + 1) - 1) / 2)
        code[rank] = (pulls + 1) * (pulls + 2) // 2 + code[rank] - pulls * (pulls + 1) // 2 + won
        assert np.array_equal(graph.codes[graph.child[node, rank, won]], np.sort(code))


def test_no_policy_earns_more_than_the_optimum_and_some_are_known():
    """Uniform play earns T / 2; greedy play with split ties has the known value; the optimum earns itself."""
    graph = count_graph(2, 10)
    shape = graph.codes.shape
    mean = success_prob(graph)
    greedy = (mean == mean.max(-1, keepdims=True)) / np.sum(mean == mean.max(-1, keepdims=True), -1, keepdims=True)
    value, rank = bayes_optimal(2, 10)
    assert expected_reward(graph, np.full(shape, 0.5)) == pytest.approx(5.0, abs=1e-12)
    assert expected_reward(graph, greedy) == pytest.approx(6.005811, abs=1e-6)
    assert expected_reward(graph, np.eye(2)[rank]) == pytest.approx(value[0], abs=1e-12)


@pytest.mark.parametrize("point", KL_UPPER, ids=str)
def test_kl_upper(point):
    assert kl_upper(*point) == pytest.approx(KL_UPPER[point], abs=2e-6)
    assert bernoulli_kl(point[0], kl_upper(*point)) == pytest.approx(point[1], abs=1e-9)


def test_divergence_at_the_ends():
    assert kl_upper(1.0, 0.3) == kl_upper(0.2, np.inf) == 1.0
    assert kl_upper(0.0, 0.3) == pytest.approx(1 - np.exp(-0.3), abs=1e-12)  # kl(0, q) = -ln(1 - q)
    assert bernoulli_kl(0.0, 0.0) == bernoulli_kl(1.0, 1.0) == 0.0
    assert bernoulli_kl(0.5, 0.0) == np.inf


@pytest.mark.parametrize("means", LAI_ROBBINS, ids=str)
def test_lai_robbins_constant(means):
    assert lai_robbins_bernoulli(np.array(means)) == pytest.approx(LAI_ROBBINS[means], abs=5e-4)


def test_lai_robbins_constant_of_gaussian_arms():
    assert lai_robbins_gaussian(np.array([1.0, 0.5, 0.8]), 0.3) == pytest.approx(2 * 0.09 * (1 / 0.5 + 1 / 0.2))
    assert lai_robbins_gaussian(np.array([0.5, 0.5]), 0.3) == 0.0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: gittins_table(1.0, 5), "discount: got 1.0"),
        (lambda: gittins_table(0.9, -1), "max_pulls: got -1"),
        (lambda: gittins_table(0.9, 5, 0.0), "prior_a: got 0.0"),
        (lambda: bayes_optimal(2, 0), "horizon: got 0"),
        (lambda: bayes_optimal(2, 200), "num_arms, horizon: got 2, 200"),
        (lambda: bayes_optimal(100, 3), "num_arms, horizon: got 100, 3"),
        (lambda: bayes_optimal(2, 3, 1.0, -1.0), "prior_b: got -1.0"),
        (lambda: lai_robbins_bernoulli(np.array([0.5, 1.0])), "means: got"),
        (lambda: lai_robbins_bernoulli(np.zeros((2, 2))), "means: got 'shape"),
        (lambda: lai_robbins_gaussian(np.array([0.5]), -1.0), "noise_std: got -1.0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
