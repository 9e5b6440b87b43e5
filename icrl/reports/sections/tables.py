"""Tables of numbers that are no curves, as the experiment made them."""

from collections.abc import Iterator
from typing import NotRequired, TypedDict

from icrl.core.errors import require
from icrl.reports.forms import Value, check_keys, check_value
from icrl.reports.numbers import format_cell
from icrl.reports.section import Head, Row, Section, Table


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


SECTION = Section("tables", _check, _show)
