"""The promises of the experiment, and whether they held."""

from collections.abc import Iterator
from typing import TypedDict

from icrl.reports.forms import Value, check_keys, check_value
from icrl.reports.numbers import format_value
from icrl.reports.section import Head, Row, Section, Table


class Check(TypedDict):
    """One promise of the experiment and whether it held."""

    what: str
    measured: Value
    target: str  # "<= 1.10"
    ok: bool


def _check(path: str, checks: list[Check]) -> None:
    for index, check in enumerate(checks):
        check_keys(f"{path}[{index}]", check, Check)
        check_value(f"{path}[{index}].measured", check["measured"])


def _show(checks: list[Check], head: Head) -> Iterator[Table]:
    del head
    # four figures, so that 1.104 does not stand as "1.10, not ok" beside "<= 1.10"
    rows = [
        Row("ok" if row["ok"] else "not-ok", [row["what"], format_value(row["measured"], 4), row["target"], verdict])
        for row in checks
        for verdict in ["ok" if row["ok"] else "NOT OK"]
    ]
    title = f"{sum(check['ok'] for check in checks)} of {len(checks)} checks hold"
    yield Table(title, ["check", "measured [95 % interval]", "target", "verdict"], rows)


SECTION = Section("checks", _check, _show)
