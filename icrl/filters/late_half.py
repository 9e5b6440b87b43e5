"""Only the later part of every history: clean behaviour, bought by hiding how it came about.

This stands between Algorithm Distillation, which imitates whole learning histories, and its baseline expert
distillation, which imitates experts only and does not improve in context (Laskin et al. 2022, In-context Reinforcement
Learning with Algorithm Distillation). It removes the poor early behaviour that Chen et al. (2025) filter by whole
histories. Do not mix it up with the scenario "half" of that paper, which is scarce data, not a filter: there the first
half is kept.
"""

import dataclasses

import numpy as np

from icrl.core.fields import setting
from icrl.core.registry import filters
from icrl.filters._table import Filter, HistoryTable, Selection, checked


@filters.register("late-half", paper="after Laskin et al. 2022")
@dataclasses.dataclass(frozen=True)
class LateHalf(Filter):
    """Every history once, from episode floor(skip E) on."""

    skip: float = setting(
        0.5,
        low=0.0,
        high=1.0,
        open_high=True,
        help="share of each history's episodes that is left out at its start",
    )

    def select(self, table: HistoryTable, rng: np.random.Generator) -> Selection:
        del rng
        num_histories, num_episodes = checked(table).returns.shape
        first = int(self.skip * num_episodes)  # below E also in floating point, so that the last episode always stays
        return Selection(np.arange(num_histories, dtype=np.int64), np.full(num_histories, first, np.int64))
