"""Tables of numbers that are no curves, as the experiment made them."""

import itertools
from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

from icrl.core.errors import require
from icrl.reports.forms import Value, check_keys, check_value
from icrl.reports.numbers import format_cell
from icrl.reports.section import Head, Number, Row, Section, Table


class Numbers(TypedDict):
    """Numbers side by side."""

    title: str
    columns: list[str]
    rows: list[list[str | float | Value]]  # one cell a column
    note: NotRequired[str]  # how they were measured


def _check(path: str, tables: list[Numbers]) -> None:
    for index, table in enumerate(tables):
        check_keys(f"{path}[{index}]", table, Numbers)
        allowed = f"{len(table['columns'])} cells, one a column"
        for number, row in enumerate(table["rows"]):
            place = f"{path}[{index}].rows[{number}]"
            require(isinstance(row, list) and len(row) == len(table["columns"]), place, row, allowed)
            for cell in row:
                if isinstance(cell, dict):
                    check_value(place, cell)


def _show(tables: list[Numbers], head: Head) -> Iterator[Table]:
    del head
    for table in tables:
        rows = [Row("", [format_cell(cell) for cell in row]) for row in table["rows"]]
        yield Table(table["title"], table["columns"], rows, table.get("note", ""))


def _numbers(tables: list[Numbers], head: Head) -> Iterator[Number]:
    """Each number of a table, of what its row is called by the text in front of the first number."""
    for table in tables:
        for row in table["rows"]:
            texts = itertools.takewhile(lambda cell: isinstance(cell, str), row)
            facts = "", "tables", ", ".join(map(str, texts)), ""
            for column, cell in zip(table["columns"], row, strict=True):
                if not isinstance(cell, str):
                    value: Any = cell if isinstance(cell, dict) else {"mean": cell}
                    bounds = value["mean"], value.get("low"), value.get("high")
                    yield Number(*facts, f"{table['title']}: {column}", "", None, *bounds, None, None)


SECTION = Section("tables", _check, _show, numbers=_numbers)
