"""No filter: what every other filter is compared with."""

import dataclasses

import numpy as np

from icrl.core.registry import filters
from icrl.filters._table import Filter, HistoryTable, Selection, checked, whole


@filters.register("keep-all", paper="-")
@dataclasses.dataclass(frozen=True)
class KeepAll(Filter):
    """Every whole history once."""

    def select(self, table: HistoryTable, rng: np.random.Generator) -> Selection:
        del rng
        return whole(np.arange(len(checked(table).task)))
