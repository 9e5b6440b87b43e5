"""The promises of the experiment, and whether they held."""

from collections.abc import Iterator
from typing import NotRequired, TypedDict

from icrl.reports.forms import Value, check_keys, check_value
from icrl.reports.numbers import NO_NUMBER, format_value
from icrl.reports.section import Head, Number, Row, Section, Table


class Check(TypedDict):
    """One promise of the experiment and whether it held."""

    what: str
    measured: Value | None  # None: it could not be computed, ``target`` says why
    target: str  # "<= 1.10"
    ok: bool
    interval: NotRequired[str]  # how it was computed, ``Interval.method``


def _check(path: str, checks: list[Check]) -> None:
    for index, check in enumerate(checks):
        check_keys(f"{path}[{index}]", check, Check)
        if check["measured"] is not None:
            check_value(f"{path}[{index}].measured", check["measured"])


def _show(checks: list[Check], head: Head) -> Iterator[Table]:
    del head
    # four figures, so that 1.104 does not stand as "1.10, not ok" beside "<= 1.10"
    rows = [
        Row("ok" if row["ok"] else "not-ok", [row["what"], measured, row.get("interval", ""), row["target"], verdict])
        for row in checks
        for verdict in ["ok" if row["ok"] else "NOT OK"]
        for measured in [NO_NUMBER if row["measured"] is None else format_value(row["measured"], 4)]
    ]
    title = f"{sum(check['ok'] for check in checks)} of {len(checks)} checks hold"
    columns = ["check", "measured [95 % interval]", "interval", "target", "verdict"]
    yield Table(title, columns, rows, details=("interval",))


def _numbers(checks: list[Check], head: Head) -> Iterator[Number]:
    for row in checks:
        if (value := row["measured"]) is not None:
            seeds, tasks = len(head["train_seeds"]), head["num_tasks"]
            bounds = value["mean"], value["low"], value["high"]
            yield Number("", "checks", "", "", row["what"], "", None, *bounds, seeds, tasks)


SECTION = Section("checks", _check, _show, numbers=_numbers)
