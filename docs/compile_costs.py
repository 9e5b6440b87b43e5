"""What compiling costs each experiment, as tables: from the files that ``benchmarks/compiling.py`` leaves.

A table a device: of each experiment the newest that was measured, with the day.
"""

from collections.abc import Iterable
from typing import Any

import comparisons

COLUMNS = ("`icrl run ...`", "programs", "tracing", "XLA", "whole run", "share", "run again", "measured")


def listing(which: str) -> str:
    """Tables of all devices."""
    del which
    return "\n\n".join(tables(comparisons.kept(compiling=True)))


def tables(documents: Iterable[dict[str, Any]]) -> list[str]:
    """A heading and a table of each device; ``documents`` are ordered by their day."""
    found: dict[str, dict[str, list[str]]] = {}
    for document in documents:
        rows = found.setdefault(comparisons.title(document), {})
        rows |= {row["name"]: _cells(row, document) for row in document["rows"] if "failed" not in row}
    return [comparisons.table(title, COLUMNS, [rows[name] for name in sorted(rows)]) for title, rows in found.items()]


def _cells(row: dict[str, Any], document: dict[str, Any]) -> list[str]:
    cpu, again = row["first"]["cpu"], row["again"]["cpu"]["run"]
    tracing = cpu["tracing"] + cpu["lowering"]
    seconds = [f"{each:.1f}" for each in (tracing, cpu["xla"], cpu["run"])]
    share = f"{(tracing + cpu['xla']) / cpu['run']:.2f}"
    return [
        f"`{row['name']}`",
        str(row["first"]["programs"]),
        *seconds,
        share,
        f"{again:.1f}",
        comparisons.when(row, document),
    ]
