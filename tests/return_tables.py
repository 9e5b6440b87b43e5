"""Tables of episode returns that tests of filters share."""

import numpy as np

from icrl.core.registry import filters
from icrl.testing.filters import some_table, table_of

__all__ = ["EXAMPLE", "counts", "select", "some_table", "table_of"]

EXAMPLE = [[0, 2, 1, 4, 4], [1, 1, 1, 1, 1], [0, 5, 0, 5, 0], [0, 1, 2, 3, 5]]  # A, B, C, D


def counts(selection, table):
    return np.bincount(selection.index, minlength=len(table.task))


def select(name, table, seed=0, **settings):
    return filters[name](**settings).select(table, np.random.default_rng(seed))
