"""The best few histories of each task, by how high they end and how far they rose.

This is the selection in the published data pipeline of Jing et al. 2026, "Benchmarking the Limits of In-Context
Reinforcement Learning for Ad-Hoc Teamwork" (ICRL4AHT). Unlike learning history filtering it is deterministic, looks
at the two ends of a history only, and shrinks the data set.
"""

import dataclasses

import numpy as np

from icrl.core.fields import setting
from icrl.core.registry import filters
from icrl.filters._table import Filter, Floats, HistoryTable, Selection, checked, end_means, groups, whole


@filters.register("top", paper="Jing et al. 2026")
@dataclasses.dataclass(frozen=True)
class TopImprovement(Filter):
    """The m histories of each task with the largest score, each once; a task with fewer keeps all it has.

    The score is last + (last - first), where "first" and "last" are the mean returns of the first and last tenth of
    the episodes (``end_means``). Of equal scores the earlier row wins.
    """

    num_kept: int = setting(10, low=1, high=2**31 - 1, help="m, histories per task")

    def select(self, table: HistoryTable, rng: np.random.Generator) -> Selection:
        del rng
        table = checked(table)
        group = groups(table.task)
        order = np.lexsort((-self.score(table), group))  # task by task, best first; stable, so earlier rows win ties
        size = np.bincount(group)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
        return whole(order[rank < self.num_kept])

    def score(self, table: HistoryTable) -> Floats:
        """The score last + (last - first) [N], in units of return."""
        first, last = end_means(checked(table).returns)
        return last + (last - first)
