"""Learning-history filters: one per file, each tells which stored histories pretraining sees and how often.

Here: what own ones are built on.
"""

from icrl.filters._table import Filter, HistoryTable, Selection, checked, span, whole

__all__ = ["Filter", "HistoryTable", "Selection", "checked", "span", "whole"]
