"""Tables of episode returns that tests of filters share."""

import numpy as np

from icrl.core.registry import filters
from icrl.filters._table import HistoryTable

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
