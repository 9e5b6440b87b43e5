"""Learning-history filters: one per file, each tells which stored histories pretraining sees and how often."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icrl.filters._table import Filter as Filter
    from icrl.filters._table import HistoryTable as HistoryTable
    from icrl.filters._table import Selection as Selection
    from icrl.filters._table import checked as checked
    from icrl.filters._table import span as span
    from icrl.filters._table import whole as whole

_LAZY = {  # what those who write their own build on, and the modules that define it; imported when used
    "Filter": "icrl.filters._table",
    "HistoryTable": "icrl.filters._table",
    "Selection": "icrl.filters._table",
    "checked": "icrl.filters._table",
    "span": "icrl.filters._table",
    "whole": "icrl.filters._table",
}
__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
