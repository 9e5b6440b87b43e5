"""Numbers from papers to hold ours against."""

from collections.abc import Iterator
from typing import TypedDict

from icrl.reports.forms import check_keys
from icrl.reports.section import Head, Row, Section, Table


class Published(TypedDict):
    """A number from a paper to hold ours against."""

    what: str
    value: float | str
    where: str  # paper, figure or table


def _check(path: str, rows: list[Published]) -> None:
    for index, row in enumerate(rows):
        check_keys(f"{path}[{index}]", row, Published)


def _show(rows: list[Published], head: Head) -> Iterator[Table]:
    del head
    body = [Row("", [row["what"], str(row["value"]), row["where"]]) for row in rows]
    yield Table("Published numbers", ["what", "value", "where"], body)


SECTION = Section("published", _check, _show)
