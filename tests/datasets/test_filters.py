"""Laws that hold for every registered filter, the filters that are not LHF, and the score E."""

import dataclasses

import numpy as np
import pytest
from return_tables import EXAMPLE, counts, select, some_table, table_of

from icrl.core.errors import InputError
from icrl.core.registry import filters
from icrl.evaluation.learning_curves import relative_enhancement, trailing_mean
from icrl.filters._table import HistoryTable, checked
from icrl.filters.lhf import LHF, unified_score
from icrl.filters.return_threshold import ReturnThreshold
from icrl.filters.top_improvement import TopImprovement
from icrl.testing.filters import LAWS

SETTINGS = [
    *((name, {}) for name in filters),
    ("lhf", {"order": "paper"}),
    ("lhf", {"retention": "softmax", "lam": 0.5}),
    ("return-threshold", {"per": "task"}),
    ("top", {"num_kept": 1}),
]
every_filter = pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
every_fixed_filter = pytest.mark.parametrize(
    ("name", "settings"), [each for each in SETTINGS if each[0] != "lhf"], ids=str
)

# --- Laws of all filters ---


@every_filter
@pytest.mark.parametrize("check", LAWS, ids=lambda law: law.__name__)
def test_law(name, settings, check):
    check(filters[name](**settings))


@every_fixed_filter
def test_filters_without_chance_do_not_draw(name, settings):
    rng = np.random.default_rng(7)
    state = rng.bit_generator.state
    filters[name](**settings).select(some_table(), rng)
    assert rng.bit_generator.state == state


@pytest.mark.parametrize("retention", ["linear", "softmax"])
def test_lhf_does_not_care_for_order_in_expectation(retention):
    table = some_table(num_tasks=3, num_histories=6)
    order = np.random.default_rng(8).permutation(len(table.task))
    moved = HistoryTable(*(column[order] for column in table))._replace(task=-table.task[order])
    repeats = 600
    draws = np.zeros((2, repeats, len(order)))
    for seed in range(repeats):
        draws[0, seed] = counts(select("lhf", table, seed, retention=retention), table)
        draws[1, seed, order] = counts(select("lhf", moved, seed, retention=retention), moved)
    difference = draws[0].mean(0) - draws[1].mean(0)
    error = np.sqrt(draws.var(1).sum(0) / repeats)
    assert np.all(np.abs(difference) <= 4 * error)
    p = LHF(retention=retention).retention_probability(table)
    mean = draws.mean((0, 1))
    for task in np.unique(table.task):  # the better of two is never seen less often
        rows = np.flatnonzero(table.task == task)
        assert np.all(np.diff(mean[rows[np.argsort(p[rows])]]) > -0.15)


def test_scores_count_from_the_smallest_return():
    negative = table_of(np.array(EXAMPLE) - 5, optimal_return=0.0, minimal_return=-5.0)
    np.testing.assert_allclose(unified_score(negative), unified_score(table_of(EXAMPLE)), atol=1e-12)


@every_filter
@pytest.mark.parametrize(("num_tasks", "num_histories", "num_episodes"), [(1, 9, 7), (4, 1, 7), (3, 5, 1), (1, 1, 1)])
def test_one_task_one_history_one_episode(name, settings, num_tasks, num_histories, num_episodes):
    table = table_of(
        np.full((num_tasks * num_histories, num_episodes), 4.0), np.repeat(np.arange(num_tasks), num_histories)
    )
    selection = select(name, table, **settings)
    most = min(settings.get("num_kept", num_histories), num_histories)
    np.testing.assert_array_equal(np.bincount(table.task[selection.index]), [most] * num_tasks)


@every_filter
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"returns": np.zeros((0, 4))}, "returns: got '0 histories'"),
        ({"returns": np.zeros((4, 0))}, "returns: got '0 episodes'"),
        ({"returns": np.zeros(4)}, r"returns: got 'float64 of shape \(4,\)'"),
        ({"returns": [[1.0, 2.0], [1.0]]}, "returns: not an array"),
        ({"returns": np.array(EXAMPLE) == 1}, "returns: got 'bool of shape"),
        ({"returns": [[0, 1], [1, 2], [3, np.nan], [0, 0]]}, r"returns of history 2 \(task 7\): got nan"),
        ({"returns": [[0, 1], [1, 2], [3, 1], [np.inf, 0]]}, r"returns of history 3 \(task 8\): got inf"),
        ({"returns": [[0, 1], [-1, 2], [3, 1], [1, 0]]}, r"history 1 \(task 7\): got -1.0, allowed: no return below"),
        ({"task": [7.0, 7.0, 7.0, 8.0]}, "task: got 'float64 of shape"),
        ({"task": [7, 7, 7]}, r"task.shape: got \(3,\)"),
        ({"optimal_return": [5, 5, 6, 5]}, r"optimal_return of history 2 \(task 7\): got 6.0, allowed: one value"),
        ({"optimal_return": [5, 5, 5, np.nan]}, r"optimal_return of history 3 \(task 8\): got nan"),
        ({"minimal_return": [0, -1, 0, 0]}, r"minimal_return of history 1 \(task 7\): got -1.0, allowed: one value"),
    ],
)
def test_tables_without_sense_are_refused(name, settings, change, message):
    table = table_of(EXAMPLE, task=[7, 7, 7, 8])._replace(**change)
    with pytest.raises(InputError, match=message) as caught:
        select(name, table, **settings)
    assert "\n" not in str(caught.value)


def test_float32_sums_just_below_the_smallest_return_are_no_mistake():
    checked(table_of([[-2.0 - 1e-6, 0]], optimal_return=0.0, minimal_return=-2.0))


# --- The competitors ---


def test_keep_all_and_late_half():
    table = some_table(num_episodes=5)
    everything, late = select("keep-all", table), select("late-half", table)
    np.testing.assert_array_equal(everything.index, np.arange(40))
    assert not everything.first_episode.any()
    np.testing.assert_array_equal(late.index, np.arange(40))
    assert set(late.first_episode.tolist()) == {2}
    assert set(select("late-half", table, skip=0.0).first_episode.tolist()) == {0}
    for num_episodes in (1, 2, 3, 5, 7, 64, 1000):  # the last one stays
        late = select("late-half", some_table(num_episodes=num_episodes), skip=np.nextafter(1, 0))
        assert set(late.first_episode.tolist()) == {num_episodes - 1}
    with pytest.raises(InputError, match="skip: got 1"):
        filters["late-half"](skip=1.0)


def test_top_ranks_by_end_and_growth():
    risen, high, low = [0.0] * 5 + [4.0] * 5, [4.0] * 10, [1.0] * 10  # scores 8, 4, 1
    table = table_of([low, high, risen, low, low, high], task=[0, 0, 0, 1, 1, 2])
    assert TopImprovement().score(table).tolist() == [1, 4, 8, 1, 1, 4]
    assert select("top", table, num_kept=1).index.tolist() == [2, 3, 5]
    assert select("top", table, num_kept=2).index.tolist() == [1, 2, 3, 4, 5]


def test_windows_are_a_tenth_but_at_least_five_episodes():
    returns = np.arange(100.0)
    assert TopImprovement().score(table_of([returns], optimal_return=99)).tolist() == [94.5 + 90]
    assert TopImprovement().score(table_of([returns[:20]], optimal_return=99)).tolist() == [17 + 15]
    assert TopImprovement().score(table_of([returns[:4]], optimal_return=99)).tolist() == [1.5]


def test_return_threshold_per_history_and_per_task():
    table = table_of(np.repeat([[0], [2], [4], [0], [1]], 6, 1), task=[0, 0, 0, 1, 1], optimal_return=5)
    assert ReturnThreshold().score(table).tolist() == [0, 0.4, 0.8, 0, 0.2]
    assert select("return-threshold", table).index.tolist() == [1, 2]
    assert select("return-threshold", table, fraction=0.8).index.tolist() == [2]
    assert select("return-threshold", table, fraction=0.0).index.tolist() == [0, 1, 2, 3, 4]
    assert select("return-threshold", table, per="task").index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(ReturnThreshold(per="task").score(table), [0.4, 0.4, 0.4, 0.1, 0.1])
    with pytest.raises(InputError, match=r"fraction: got 0.9, allowed: at most 0.8, the best that any history reached"):
        select("return-threshold", table, fraction=0.9)


# --- The score E ---


def test_enhancement_of_a_step_curve_raw_and_smoothed():
    step = np.repeat([0.0, 1.0], 50)
    assert step.mean() == 0.5
    assert trailing_mean(step).mean() == pytest.approx(0.405, abs=1e-12)
    flat = np.full((3, 100), 0.25)
    assert relative_enhancement(step[None], flat) == pytest.approx(1.0)
    assert relative_enhancement(step[None], flat, window=20) == pytest.approx(0.405 / 0.25 - 1)


@pytest.mark.parametrize(("length", "window"), [(50, 20), (5, 20), (20, 20), (21, 20), (7, 1)])
def test_trailing_mean_is_the_mean_of_what_there_is(length, window):
    curve = np.random.default_rng(10).normal(size=(2, 3, length))
    expected = [curve[..., max(0, k - window + 1) : k + 1].mean(-1) for k in range(length)]
    np.testing.assert_allclose(trailing_mean(curve, window), np.stack(expected, -1), atol=1e-12)


@pytest.mark.parametrize(
    ("filtered", "base", "message"),
    [
        (np.ones((2, 5)), np.zeros((2, 5)), "base: got 'mean return 0', allowed: a positive mean return"),
        (np.ones((2, 5)), -np.ones((2, 5)), "base: got 'mean return -1'"),
        (np.ones((2, 5)), np.ones((2, 6)), "base.shape"),
        (np.ones(5), np.ones((2, 5)), "filtered.shape"),
        (np.ones((2, 0)), np.ones((2, 0)), "filtered.shape"),
        (np.full((2, 5), np.nan), np.ones((2, 5)), "filtered: got '10 non-finite"),
    ],
)
def test_enhancement_refuses_what_has_no_ratio(filtered, base, message):
    with pytest.raises(InputError, match=message):
        relative_enhancement(filtered, base)


def test_filters_are_frozen():
    for name in filters:
        with pytest.raises(dataclasses.FrozenInstanceError):
            filters[name]().extra = 1
