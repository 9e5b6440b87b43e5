"""Laws of filters of learning histories."""

from typing import Any

import numpy as np

from icrl.core.errors import InputError
from icrl.core.registry import filters
from icrl.filters import Filter, HistoryTable, Selection
from icrl.testing._law import expect, law, made


def check_filter(rule: Filter | type[Filter] | str) -> None:
    """Raise ``BrokenLawError`` for the first law of filters that ``rule`` does not obey.

    Args:
      rule: a filter, its class or its registered name.
    """
    rule = made(filters, rule)
    if not isinstance(rule, Filter):
        raise InputError(f"rule: got {type(rule).__name__}, allowed: a filter, a class of them or a registered name")
    for each in LAWS:
        each(rule)


def some_table(seed: int = 0, num_tasks: int = 5, num_histories: int = 8, num_episodes: int = 12) -> HistoryTable:
    """Returns in multiples of 1/8, so that shifts and doublings are exact; rows of a task do not stand together."""
    rng = np.random.default_rng(seed)
    shape = (num_tasks * num_histories, num_episodes)
    # histories that rise, at their own speed and with their own noise
    level = np.linspace(0, 1, num_episodes) * rng.uniform(2, 10, (shape[0], 1)) + rng.uniform(0, 2, shape)
    task = rng.permutation(np.repeat(rng.permutation(100)[:num_tasks], num_histories))
    return table_of(np.round(8 * level) / 8, task, 16.0)


def table_of(returns: Any, task: Any = 0, optimal_return: Any = 5.0, minimal_return: Any = 0.0) -> HistoryTable:
    """The table of ``returns`` [N, E]; the others are [N], or one value for all."""
    returns = np.array(returns, float)
    task, highest, lowest = (
        np.broadcast_to(each, len(returns)).copy() for each in (task, optimal_return, minimal_return)
    )
    return HistoryTable(task, returns, highest, lowest)


def _select(rule: Filter, table: HistoryTable, seed: int = 0) -> Selection:
    return rule.select(table, np.random.default_rng(seed))


@law
def a_selection_is_sound_and_repeatable(rule: Filter) -> None:
    """Ascending rows of the table and episodes of it, the same again; the table stays as it is."""
    table = some_table()
    before = [column.copy() for column in table]
    first, again = (_select(rule, table, seed=6) for _ in range(2))
    for name, a, b in zip(Selection._fields, first, again, strict=True):
        expect(a.dtype == np.int64, f"{name} of the selection", str(a.dtype), "int64")
        expect(np.array_equal(a, b), f"{name} of two selections on one seed", "different ones", "equal ones")
    index, episode = first
    expect(1 <= len(index) == len(episode), "histories selected", len(index), f"{len(episode)}, at least 1")
    expect(np.all(np.diff(index) >= 0), "index", index, "ascending")
    expect(index.min() >= 0 and index.max() < len(table.task), "index", index, f"rows below {len(table.task)}")
    inside = episode.min() >= 0 and episode.max() < table.returns.shape[1]
    expect(inside, "first_episode", episode, f"episodes below {table.returns.shape[1]}")
    for name, column, copy in zip(HistoryTable._fields, table, before, strict=True):
        expect(np.array_equal(column, copy), f"{name} of the table", "changed", "as it was given")


@law
def a_filter_that_does_not_draw_does_not_care_for_order(rule: Filter) -> None:
    """Of the rows, and of the numbers of the tasks; a rule with chance cares, as its draws come in order."""
    table, rng = some_table(), np.random.default_rng(7)
    state = rng.bit_generator.state
    first = rule.select(table, rng)
    if rng.bit_generator.state != state:
        return
    order = np.random.default_rng(8).permutation(len(table.task))
    moved = _select(rule, HistoryTable._make(column[order] for column in table))
    same = np.array_equal(np.sort(order[moved.index]), first.index)
    expect(same, "selection from rows in another order", "other histories", "the same histories")
    renamed = _select(rule, table._replace(task=-3 * table.task))
    same = np.array_equal(renamed.index, first.index)
    expect(same, "selection from tasks with other numbers", "other histories", "the same histories")


@law
def the_unit_and_the_zero_of_returns_do_not_matter(rule: Filter) -> None:
    """All returns and bounds 32 less, or twice as large."""
    table = some_table()
    limits = ("returns", "optimal_return", "minimal_return")
    less = table._replace(**{name: getattr(table, name) - 32 for name in limits})
    twice = table._replace(**{name: getattr(table, name) * 2 for name in limits})
    wanted = _select(rule, table)
    for what, moved in (("32 less", less), ("doubled", twice)):
        same = all(map(np.array_equal, _select(rule, moved), wanted))
        expect(same, f"selection with returns {what}", "another", "the same")


@law
def one_task_one_history_and_one_episode_are_enough(rule: Filter) -> None:
    """Every task of equal histories keeps some."""
    for tasks, histories, episodes in ((1, 9, 7), (4, 1, 7), (3, 5, 1), (1, 1, 1)):
        table = table_of(np.full((tasks * histories, episodes), 4.0), np.repeat(np.arange(tasks), histories))
        kept = np.bincount(table.task[_select(rule, table).index], minlength=tasks)
        expect(np.all(kept >= 1), f"histories kept of {tasks} tasks with {histories} equal ones", kept, "some of each")


SENSELESS = (
    ({"returns": np.zeros((0, 4))}, "no histories"),
    ({"returns": np.zeros((8, 0))}, "no episodes"),
    ({"returns": np.zeros(8)}, "returns without episodes"),
    ({"returns": np.full((8, 3), np.nan)}, "returns that are no numbers"),
    ({"returns": np.full((8, 3), -9.0)}, "returns below minimal_return"),
    ({"task": np.zeros(8)}, "tasks numbered by floats"),
    ({"task": np.zeros(3, int)}, "tasks of some histories alone"),
    ({"optimal_return": np.arange(8.0)}, "two optimal returns of one task"),
)


@law
def a_table_without_sense_is_refused(rule: Filter) -> None:
    """With ``InputError``; ``icrl.filters.checked`` does it."""
    for change, what in SENSELESS:
        table = table_of(np.ones((8, 3)), np.repeat([7, 8], 4))._replace(**change)
        try:
            _select(rule, table)
        except InputError:
            continue
        expect(False, f"a table with {what}", "a selection", "InputError")


LAWS = (
    a_selection_is_sound_and_repeatable,
    a_filter_that_does_not_draw_does_not_care_for_order,
    the_unit_and_the_zero_of_returns_do_not_matter,
    one_task_one_history_and_one_episode_are_enough,
    a_table_without_sense_is_refused,
)
