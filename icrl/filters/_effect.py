"""What a selection did to a data set: where it changed nothing, a model trained on it has nothing to gain.

Letters: N histories, E whole episodes in each.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from icrl.core.errors import require
from icrl.filters._table import HistoryTable, Selection, checked, groups
from icrl.filters.lhf import improvement, stability


class Effect(NamedTuple):
    """A quantity of the data as they were collected, and as a filter left them."""

    before: float
    after: float


def effects(table: HistoryTable, selection: Selection) -> dict[str, Effect]:
    """What ``selection`` changed, by what it is.

    Histories count as often as they were selected, from the episode on from which they are used:

    - "mean return", over all their episodes;
    - "improvement" and "stability" of Chen et al. 2025, section 4, means over histories; without the tasks in which
      nothing can be gained (Rmax = Rmin), and absent where there is no other;
    - "sd in a task": of the mean returns of histories around the mean of their task, what there is to choose among;
    - "distinct histories", their number.

    Raises:
      InputError: a table that ``checked`` refuses, or a selection that is empty or of another table.
    """
    table, count = checked(table), len(selection.index)
    require(count > 0, "selection", "no history", "at least one")
    last = int(selection.index.max())
    require(last < len(table.task), "selection", f"history {last}", f"one of the {len(table.task)} in the table")
    before, after = _quantities([table]), _quantities(_selected(table, selection))
    counted = Effect(len(table.task), len(np.unique(selection.index)))
    return {name: Effect(before[name], after[name]) for name in before if name in after} | {
        "distinct histories": counted
    }


def _selected(table: HistoryTable, selection: Selection) -> list[HistoryTable]:
    """The histories that are used, one table for each episode from which some are."""
    return [
        _rows(table._replace(returns=table.returns[:, first:]), selection.index[selection.first_episode == first])
        for first in np.unique(selection.first_episode)
    ]


def _rows(table: HistoryTable, which: NDArray[Any]) -> HistoryTable:
    """The histories with these indices, or where this mask holds."""
    return HistoryTable(
        table.task[which], table.returns[which], table.optimal_return[which], table.minimal_return[which]
    )


def _quantities(parts: Sequence[HistoryTable]) -> dict[str, float]:
    means = np.concatenate([part.returns.mean(1) for part in parts])
    group = groups(np.concatenate([part.task for part in parts]))
    of_task = np.bincount(group, means) / np.bincount(group)
    found = {
        "mean return": float(sum(part.returns.sum() for part in parts) / sum(part.returns.size for part in parts)),
        "sd in a task": float(np.sqrt(np.mean(np.square(means - of_task[group])))),
    }
    gaining = [_rows(part, part.optimal_return > part.minimal_return) for part in parts]
    gaining = [part for part in gaining if len(part.task)]
    if gaining:
        found["improvement"] = float(np.concatenate([improvement(part) for part in gaining]).mean())
        found["stability"] = float(np.concatenate([stability(part) for part in gaining]).mean())
    return found
