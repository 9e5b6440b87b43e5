"""An own filter of learning histories, beside ours: what it keeps, and what a model makes of it.

    python examples/own_filter.py

A filter sees a table of returns, one row a history, and answers with rows.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import icrl
from icrl.core.fields import setting
from icrl.core.registry import filters
from icrl.filters import Filter, HistoryTable, Selection, checked, span, whole
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


def main(out: Path = Path("runs/own-filter"), train_steps: int = 500, lawful: bool = True) -> list[dict[str, Any]]:
    """AD on Dark Room with three filters of the same histories; what each did to them, and what models made of them."""
    if lawful:
        check_filter(Steady())
    vary = ("filter=keep-all,lhf,steady",)
    results = icrl.run("ad-darkroom", preset="smoke", out=out, vary=vary, train_steps=train_steps)
    results.summary()
    return results.rows()


if __name__ == "__main__":
    main()
