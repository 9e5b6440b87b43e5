"""Only histories that ended well, after the filter of XLand-100B (Nikulin et al. 2024, arXiv 2406.08973).

The published script of that data set drops a run when the mean evaluation return of its final policy is below 0.3, in
an environment whose returns lie in [0, 1]. A run there is a task with all its histories: that is ``per="task"``. Ours
is read off the histories themselves, since the evaluations of a source's final policy are not part of a data set, and
is relative to the task's best return, so that one setting serves all tasks.
"""

import dataclasses

import numpy as np

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import filters
from icrl.filters._table import Filter, Floats, HistoryTable, Selection, checked, end_means, groups, span, whole


@filters.register("return-threshold", paper="Nikulin et al. 2024")
@dataclasses.dataclass(frozen=True)
class ReturnThreshold(Filter):
    """The histories whose final return is at least ``fraction`` of the way from Rmin to Rmax, each once.

    The final return is the mean over the last tenth of the episodes (``end_means``). A task may lose all its
    histories; a data set may not: that raises ``InputError`` with the largest fraction that keeps something.
    """

    fraction: float = setting(0.3, low=0.0, high=1.0, help="least final return, as a share between Rmin and Rmax")
    per: str = setting(
        "history",
        choices=("history", "task"),
        help="each history by its own final return, or all or none of a task by their mean",
    )

    def select(self, table: HistoryTable, rng: np.random.Generator) -> Selection:
        del rng
        reached = self.score(table)
        kept = np.flatnonzero(reached >= self.fraction)
        best = f"at most {float(reached.max())}, the best that any {self.per} reached"
        require(len(kept) > 0, "fraction", self.fraction, best)
        return whole(kept)

    def score(self, table: HistoryTable) -> Floats:
        """(final return - Rmin) / (Rmax - Rmin) [N]; with ``per="task"`` its mean over the task's histories."""
        table = checked(table)
        reached = np.maximum(end_means(table.returns)[1] - table.minimal_return, 0.0) / span(table)
        if self.per == "history":
            return reached
        group = groups(table.task)
        return (np.bincount(group, reached) / np.bincount(group))[group]
