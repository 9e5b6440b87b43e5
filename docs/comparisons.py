"""What ours and other programs did side by side, as tables: from the files that ``benchmarks/compare.py`` leaves.

A table a device and number of its cores: of each row the newest that was measured, with the day.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from icrl.storage.publish import read_json

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
SCHEMA = 1
COLUMNS = ("what", "ours, a second", "beside", "ratio", "of CPU time", "first call, CPU s", "measured")


def listing(which: str) -> str:
    """Tables of all devices."""
    del which
    return "\n\n".join(tables(kept(compiling=False)))


def kept(compiling: bool) -> list[dict[str, Any]]:
    """What was measured, ordered by day: the costs of compiling, or ours beside others."""
    found = [read_json(path) for path in sorted(RESULTS.glob("*.json"))]
    return [each for each in found if (each["set"] == "compiling") == compiling]


def tables(documents: Iterable[dict[str, Any]]) -> list[str]:
    """A heading and a table of each device; ``documents`` are ordered by their day."""
    found: dict[str, dict[str, list[str]]] = {}
    for document in documents:
        assert document["schema"] == SCHEMA, document["schema"]
        rows = found.setdefault(title(document), {})
        for row in document["rows"]:
            if "failed" not in row or row["name"] not in rows:
                rows[row["name"]] = _cells(row, document)
    return [table(device, COLUMNS, rows.values()) for device, rows in found.items()]


def table(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, below its heading."""
    lines = (f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))
    return "\n".join((f"### {heading}\n", *lines))


def title(document: dict[str, Any]) -> str:
    """The device, the processor where a file tells of it, and how many of its cores the sides were kept to."""
    name, cores = document["device"], document["cores"]
    words = [name, document.get("processor", "")]
    words += [f"kept to {cores}"] if name.endswith(" x cpu") and name != f"{cores} x cpu" else []
    return ", ".join(filter(None, words))


def _cells(row: dict[str, Any], document: dict[str, Any]) -> list[str]:
    said = "; ".join(filter(None, [row["note"], row.get("more", "")]))
    what = row["what"] + (f" ({said})" if said else "")
    if "failed" in row:
        return [what, "-", row["beside"] or "-", "-", "-", "-", f"{document['date']}: {_plain(row['failed'])}"]
    ours, beside, ratios = row["ours"], "-", ["-", "-"]
    if "ratio" in row:
        peer = row["peer"]
        beside = f"{row['beside']}, {peer['version']}: {_short(peer['per_second'])}"
        ratios = [_short(row[each]) for each in ("ratio", "cpu_ratio")]
    return [
        what,
        f"{_short(ours['per_second'])} {ours['unit']}",
        beside,
        *ratios,
        f"{ours['first_cpu_seconds']:.1f}",
        when(row, document),
    ]


def when(row: dict[str, Any], document: dict[str, Any]) -> str:
    """The day, and what else bears on a speed."""
    return f"{document['date']}, jax {document['versions']['jax']}, load {row['load']:.0f}"


def _short(number: float) -> str:
    """Three digits that count, and noughts."""
    return f"{float(f'{number:.3g}'):,.0f}" if number >= 100 else f"{number:.3g}"


def _plain(text: str) -> str:
    """Safe in a cell."""
    return text.replace("|", "/").replace("`", "'")
