"""An own filter of learning histories, beside ours: what it keeps, and what a model makes of it.

    python examples/own_filter.py

A filter sees a table of returns, one row a history, and answers with rows.
"""

import dataclasses
from pathlib import Path

import numpy as np

from icrl.cli import main as icrl
from icrl.core.fields import setting
from icrl.core.registry import filters
from icrl.filters._table import Filter, HistoryTable, Selection, checked, span, whole
from icrl.testing import check_filter


@filters.register("steady")
@dataclasses.dataclass(frozen=True)
class Steady(Filter):
    """Histories whose largest fall below their running best is at most ``drop`` of Rmax - Rmin."""

    drop: float = setting(0.5, low=0.0, high=1.0, help="largest fall that is accepted, a share of Rmax - Rmin")

    def select(self, table: HistoryTable, rng: np.random.Generator) -> Selection:
        del rng  # no chance in it
        table = checked(table)
        falls = (np.maximum.accumulate(table.returns, axis=1) - table.returns).max(axis=1) / span(table)
        kept = np.flatnonzero(falls <= self.drop)
        return whole(kept if kept.size else np.array([falls.argmin()]))  # never nothing


def main(out: Path = Path("runs/own-filter"), train_steps: int = 500, lawful: bool = True) -> Path:
    """AD on Dark Room with three filters on the same histories; the folder of the run."""
    if lawful:
        check_filter(Steady())
    words = f"run ad-darkroom --preset smoke --vary filter=keep-all,lhf,steady --train-steps {train_steps}"
    assert icrl([*words.split(), "--out", str(out)]) == 0
    return out


if __name__ == "__main__":
    print(main() / "report.html")
