"""Learning history filtering: the worked example, retention, and the loop."""

import numpy as np
import pytest
from return_tables import EXAMPLE, counts, select, some_table, table_of

from icrl.core.errors import InputError
from icrl.filters._table import HistoryTable
from icrl.filters.lhf import (
    LHF,
    improvement,
    linear_retention,
    refill,
    softmax_retention,
    stability,
    unified_score,
)

# --- LHF: scores and retention ---


def test_scores_of_the_worked_example():
    table = table_of(EXAMPLE)
    np.testing.assert_allclose(improvement(table), [0.62, 0.10, 0.70, 0.72], atol=1e-12)
    np.testing.assert_allclose(stability(table), [0.80, 1, 0, 1], atol=1e-12)  # zeros do not dilute A's falls
    np.testing.assert_allclose(unified_score(table), [1.42, 1.10, 0.70, 1.72], atol=1e-12)


@pytest.mark.parametrize("optimal_return", [5, 7, 20])
@pytest.mark.parametrize(
    ("lam", "expected"),
    [
        (0, [0.8387, 0, 0.9677, 1]),
        (0.5, [0.6774, 0, 0.1613, 1]),
        (1, [0.7059, 0.3922, 0, 1]),
        (2, [0.7525, 0.6931, 0, 1]),
        (1000, [0.7999, 0.9994, 0, 1]),
    ],
)
def test_linear_retention_of_the_worked_example_whatever_the_optimum(lam, expected, optimal_return):
    p = LHF(lam=lam).retention_probability(table_of(EXAMPLE, optimal_return=optimal_return))
    np.testing.assert_allclose(p, expected, atol=1e-4)


SOFTMAX = {
    0.0625: [0.0082, 0, 0, 1],
    0.125: [0.0905, 0.0067, 0, 1],
    0.25: [0.2892, 0.0680, 0, 1],
    0.5: [0.4814, 0.1832, 0, 1],
    1: [0.5947, 0.2774, 0, 1],
}


@pytest.mark.parametrize(("alpha", "expected"), SOFTMAX.items())
def test_softmax_retention_of_the_worked_example(alpha, expected):
    p = LHF(retention="softmax", alpha=alpha).retention_probability(table_of(EXAMPLE))
    np.testing.assert_allclose(p, expected, atol=1e-4)
    # only alpha Rmax matters
    doubled = LHF(retention="softmax", alpha=alpha / 2).retention_probability(table_of(EXAMPLE, optimal_return=10))
    np.testing.assert_allclose(doubled, p, rtol=1e-12)


@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 0.3, 1.0, 1e6])
def test_softmax_retention_is_its_formula_and_survives_extreme_temperatures(alpha):
    rng = np.random.default_rng(1)
    score, task = rng.uniform(0, 2, 60), rng.integers(0, 4, 60)
    p = softmax_retention(score, task, alpha)
    for each in range(4):
        inside = task == each
        power = (score[inside] - score[inside].max()) / alpha
        plain = np.exp(power) / np.exp(power).sum()
        expected = (plain - plain.min()) / (plain.max() - plain.min())
        np.testing.assert_allclose(p[inside], expected, atol=1e-8 if alpha > 1e3 else 1e-12)
    if alpha > 1e3:
        np.testing.assert_allclose(p, linear_retention(score, task), atol=1e-5)


def test_retention_is_per_task():
    table = some_table()
    p = LHF().retention_probability(table)
    for task in np.unique(table.task):
        rows = table.task == task
        alone = HistoryTable(*(column[rows] for column in table))
        np.testing.assert_array_equal(LHF().retention_probability(alone), p[rows])
        assert p[rows].min() == 0 and p[rows].max() == 1


def test_stability_counts_falls_only():
    table = table_of([[3, 3, 3, 3], [0, 1, 4, 5], [5, 1, 5, 3], [5, 0, 0, 0]])
    np.testing.assert_allclose(stability(table), [1, 1, 1 - 3 / 5, 0])
    assert stability(table_of([[2.0], [0.0]])).tolist() == [1, 1]  # one episode


def test_histories_that_score_alike_are_all_kept():
    # the same episodes in another order: U differs by rounding only
    table = table_of([[0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7]], optimal_return=0.9)
    nudged = unified_score(table) + np.array([0, 4e-16, -4e-16])
    for retain in (linear_retention, lambda score, task: softmax_retention(score, task, 0.125)):
        assert retain(nudged, table.task).tolist() == [1, 1, 1]
    assert counts(select("lhf", table), table).tolist() == [1, 1, 1]


def test_a_task_in_which_nothing_can_be_gained_is_refused():
    table = table_of(np.zeros((3, 4)), task=[4, 4, 9], optimal_return=[1, 1, 0])
    for name in ("lhf", "return-threshold"):
        with pytest.raises(InputError, match=r"optimal_return of history 2 \(task 9\): got 0.0"):
            select(name, table)
    assert len(select("keep-all", table).index) == 3


@pytest.mark.parametrize(
    "bad", [{"lam": -1.0}, {"lam": np.nan}, {"retention": "log"}, {"alpha": 0.0}, {"order": "reverse"}]
)
def test_bad_settings_of_lhf_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        LHF(**bad)


# --- LHF: the loop ---


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_loop_with_uniform_scores(shuffled):
    distinct, draws = [], []
    group = np.zeros(100, np.int64)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        refilled = refill(linear_retention(rng.random(100), group), group, rng, shuffled=shuffled)
        distinct.append(len(np.unique(refilled.rows)))
        draws.append(refilled.num_draws[0] / 100)
        assert len(refilled.rows) == 100
    assert abs(np.mean(distinct) - 65.9) <= 0.7
    assert abs(np.mean(draws) - 2.01) <= 0.04


def test_paper_order_is_algorithm_1_written_out():
    p, group = np.random.default_rng(2).random(12), np.zeros(12, np.int64)
    refilled = refill(p, group, np.random.default_rng(3), shuffled=False)
    rng = np.random.default_rng(3)
    kept, draws = [], 0
    while len(kept) < 12:
        for row, v in enumerate(rng.random(12)):
            if len(kept) < 12:
                draws += 1
                kept += [row] if v <= p[row] else []
    assert refilled.rows.tolist() == kept and refilled.num_draws.tolist() == [draws]


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_best_enters_on_every_pass_and_the_worst_never(shuffled):
    table = some_table(num_tasks=7, num_histories=9)
    p, group = LHF().retention_probability(table), np.unique(table.task, return_inverse=True)[1]
    for seed in range(50):
        refilled = refill(p, group, np.random.default_rng(seed), shuffled=shuffled)
        times = np.bincount(refilled.rows, minlength=len(p))
        full = refilled.num_draws // 9  # passes that went through the whole task
        cut = -(-refilled.num_draws // 9)  # and those that met its end
        assert not times[p == 0].any()
        best = np.flatnonzero(p == 1)
        assert np.all((full[group[best]] <= times[best]) & (times[best] <= cut[group[best]]))
        if not shuffled:  # exactly: it stands at this place in the scan
            for row in best:
                place = np.count_nonzero(group[:row] == group[row])
                assert times[row] == full[group[row]] + (refilled.num_draws[group[row]] % 9 > place)


@pytest.mark.parametrize("order", ["paper", "shuffled"])
def test_lhf_keeps_the_size_of_every_task(order):
    rng = np.random.default_rng(4)
    task = rng.integers(0, 30, 400)
    table = table_of(rng.uniform(0, 5, (400, 6)), task)
    index = select("lhf", table, order=order).index
    np.testing.assert_array_equal(np.bincount(task[index], minlength=30), np.bincount(task, minlength=30))


@pytest.mark.parametrize("order", ["paper", "shuffled"])
def test_lhf_selects_by_its_own_retention(order):
    table = some_table()
    lhf = LHF(lam=0.5, retention="softmax", alpha=0.5, order=order)
    group = np.unique(table.task, return_inverse=True)[1]
    rows = refill(lhf.retention_probability(table), group, np.random.default_rng(11), shuffled=order == "shuffled").rows
    np.testing.assert_array_equal(lhf.select(table, np.random.default_rng(11)).index, np.sort(rows))


def test_a_history_is_seen_about_as_often_as_its_retention_says():
    p, group = np.linspace(0, 1, 50), np.zeros(50, np.int64)
    rng = np.random.default_rng(12)
    rows = np.concatenate([refill(p, group, rng, shuffled=True).rows for _ in range(1000)])
    mean = np.bincount(rows, minlength=50) / 1000
    np.testing.assert_allclose(mean, p * 50 / p.sum(), atol=0.1)  # standard error below .03; bias of the last pass


def test_constant_tasks_terminate_and_stay_as_they_are():
    table = table_of(np.full((6, 4), 2.0), task=[1, 1, 1, 2, 2, 3])
    for order in ("paper", "shuffled"):
        assert select("lhf", table, order=order).index.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_loop_that_could_not_end_is_refused():
    with pytest.raises(InputError, match="no positive one in group 1"):
        refill(np.array([0.5, 0.0]), np.array([0, 1]), np.random.default_rng(0), shuffled=False)


def test_shuffling_takes_the_advantage_from_early_rows():
    # four equal middling histories between the best and the worst; paper order cuts the late ones off
    p, group = np.array([1, 0.5, 0.5, 0.5, 0.5, 0]), np.zeros(6, np.int64)
    mean = {}
    for shuffled in (False, True):
        rng = np.random.default_rng(5)
        rows = np.concatenate([refill(p, group, rng, shuffled=shuffled).rows for _ in range(2000)])
        mean[shuffled] = np.bincount(rows, minlength=6)[1:5] / 2000
    assert mean[False][0] > mean[False][3] + 0.15
    assert np.ptp(mean[True]) < 0.08  # a difference of two means has a standard error of about .022
