"""Filters: the worked example and the loop of LHF, laws that hold for every registered filter, files, and E."""

import dataclasses
import json

import numpy as np
import pytest

from icrl.errors import DamagedError, InputError
from icrl.filters.lhf import (
    LHF,
    improvement,
    linear_retention,
    refill,
    softmax_retention,
    stability,
    unified_score,
)
from icrl.filters.return_threshold import ReturnThreshold
from icrl.filters.selection import load_selection, provenance_of, save_selection
from icrl.filters.table import HistoryTable, Selection, checked
from icrl.filters.top_improvement import TopImprovement
from icrl.learning_curves import relative_enhancement, trailing_mean
from icrl.registry import filters

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

EXAMPLE = [[0, 2, 1, 4, 4], [1, 1, 1, 1, 1], [0, 5, 0, 5, 0], [0, 1, 2, 3, 5]]  # A, B, C, D


def table_of(returns, task=0, optimal_return=5.0, minimal_return=0.0):
    size = len(returns)
    columns = (np.broadcast_to(column, size).copy() for column in (task, optimal_return, minimal_return))
    task, optimal_return, minimal_return = columns
    return HistoryTable(task, np.array(returns, float), optimal_return, minimal_return)


def some_table(seed=0, num_tasks=5, num_histories=8, num_episodes=12):
    """Multiples of 1/8, so that shifts and doublings are exact; rows of a task do not stand together."""
    rng = np.random.default_rng(seed)
    shape = (num_tasks * num_histories, num_episodes)
    # histories that rise, at their own speed and with their own noise
    level = np.linspace(0, 1, num_episodes) * rng.uniform(2, 10, (shape[0], 1)) + rng.uniform(0, 2, shape)
    task = rng.permutation(np.repeat(rng.permutation(100)[:num_tasks], num_histories))
    return table_of(np.round(8 * level) / 8, task, 16.0)


def counts(selection, table):
    return np.bincount(selection.index, minlength=len(table.task))


def select(name, table, seed=0, **settings):
    return filters[name](**settings).select(table, np.random.default_rng(seed))


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


# --- Laws of all filters ---


@every_filter
def test_a_selection_is_sound_and_repeatable(name, settings):
    table = some_table()
    before = [column.copy() for column in table]
    first, again = (select(name, table, seed=6, **settings) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.int64
    assert 1 <= len(first.index) == len(first.first_episode)
    assert np.all(np.diff(first.index) >= 0)
    assert first.index.min() >= 0 and first.index.max() < len(table.task)
    assert first.first_episode.min() >= 0 and first.first_episode.max() < table.returns.shape[1]
    for column, copy in zip(table, before, strict=True):
        np.testing.assert_array_equal(column, copy)


@every_fixed_filter
def test_filters_without_chance_do_not_draw_and_do_not_care_for_order(name, settings):
    table = some_table()
    rng = np.random.default_rng(7)
    state = rng.bit_generator.state
    first = filters[name](**settings).select(table, rng)
    assert rng.bit_generator.state == state
    order = np.random.default_rng(8).permutation(len(table.task))
    moved = select(name, HistoryTable(*(column[order] for column in table)), **settings)
    np.testing.assert_array_equal(np.sort(order[moved.index]), first.index)
    renamed = select(name, table._replace(task=-3 * table.task), **settings)  # the order of the tasks is reversed
    np.testing.assert_array_equal(renamed.index, first.index)


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


@every_filter
@pytest.mark.parametrize("change", ["shift", "double"])
def test_the_unit_and_the_zero_of_returns_do_not_matter(name, settings, change):
    table = some_table()
    if change == "shift":  # also: negative returns
        moved = table._replace(
            returns=table.returns - 32,
            optimal_return=table.optimal_return - 32,
            minimal_return=table.minimal_return - 32,
        )
    else:
        moved = table._replace(returns=2 * table.returns, optimal_return=2 * table.optimal_return)
    a, b = select(name, table, **settings), select(name, moved, **settings)
    np.testing.assert_array_equal(a.index, b.index)
    np.testing.assert_array_equal(a.first_episode, b.first_episode)


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
    with pytest.raises(InputError, match=r"fraction: got 0.9, allowed: at most 0.8, the best that any history reached"):
        select("return-threshold", table, fraction=0.9)


# --- Selections as files ---


@pytest.fixture
def stored(tmp_path):
    table, settings = some_table(), LHF(lam=0.5)
    selection = settings.select(table, np.random.default_rng(9))
    origin = provenance_of("lhf", settings, table, 9, "d1")
    path = tmp_path / "selection.json"
    save_selection(path, selection, origin)
    return path, selection, origin


def test_a_selection_comes_back(stored):
    path, selection, origin = stored
    loaded, told = load_selection(path, "d1")
    for a, b in zip(selection, loaded, strict=True):
        np.testing.assert_array_equal(a, b)
        assert b.dtype == np.int64
    assert told == origin
    assert LHF(**told["settings"]) == LHF(lam=0.5) and told["seed"] == 9


def test_a_selection_for_another_data_set_is_refused(stored):
    with pytest.raises(InputError, match=r"selection.json: dataset: got 'd1', allowed: 'd2'") as caught:
        load_selection(stored[0], "d2")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("index", [0, 40], r"index: expected integers in \[0, 40\), found 40"),
        ("index", [-1, 3], "found -1"),
        ("index", [True, 3], "found True"),
        ("index", [1.0, 3], "found 1.0"),
        ("index", [], "index: expected a list"),
        ("index", [10**30], "found 10"),
        ("first_episode", [12] * 40, r"first_episode: expected integers in \[0, 12\), found 12"),
        ("first_episode", [0], "first_episode: expected 40 values, found 1"),
        ("provenance", {"dataset": "d1"}, "provenance: expected the fields"),
    ],
)
@pytest.mark.parametrize("resealed", [False, True])
def test_damage_is_found(stored, field, value, message, resealed):
    from icrl.filters.selection import _digest

    path = stored[0]
    body = json.loads(path.read_text()) | {field: value}
    if resealed:  # even when somebody made the digest fit again
        body["sha256"] = _digest({key: body[key] for key in body.keys() - {"sha256"}})
    path.write_text(json.dumps(body))
    with pytest.raises(DamagedError, match=message if resealed else "sha256: expected") as caught:
        load_selection(path, "d1")
    assert "\n" not in str(caught.value) and "selection.json" in str(caught.value)


def test_files_that_are_no_selection_are_refused(stored, tmp_path):
    path = stored[0]
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(DamagedError, match="not strict JSON"):
        load_selection(path, "d1")
    path.write_text("[]")
    with pytest.raises(DamagedError, match="expected the fields"):
        load_selection(path, "d1")
    with pytest.raises(InputError, match="No such file"):
        load_selection(tmp_path / "none.json", "d1")


def test_only_fitting_selections_are_saved(stored):
    path, selection, origin = stored
    before = path.read_bytes()
    for wrong in (
        selection._replace(index=selection.index + 1000),
        selection._replace(first_episode=selection.first_episode[1:]),
        selection._replace(index=selection.index / 2),
        Selection(np.zeros(0, np.int64), np.zeros(0, np.int64)),
    ):
        with pytest.raises(InputError, match="selection: got"):
            save_selection(path, wrong, origin)
    with pytest.raises(InputError, match="provenance"):
        save_selection(path, selection, {"seed": 1})
    with pytest.raises(InputError, match="settings: got 'LHF'"):
        provenance_of("top", LHF(), some_table(), 9, "d1")
    assert path.read_bytes() == before


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
