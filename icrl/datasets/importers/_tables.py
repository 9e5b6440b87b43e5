"""Columns of a CSV file as numbers, a wrong cell named by its file, line and column."""

import csv
import io
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import InputError, near_names, require
from icrl.core.progress import Progress
from icrl.storage.paths import show

CHUNK = 50_000  # rows that are turned into numbers at once
MOST_NAMES = 1024  # different texts in a column of categories


class Columns(NamedTuple):
    """Chosen columns of a table, and on which line of the file each row ends."""

    name: str  # of the file
    numbers: dict[str, np.ndarray]  # [n] float64
    texts: dict[str, np.ndarray]  # [n] of text
    lines: np.ndarray  # [n] from 1

    def refuse(self, bad: np.ndarray, column: str, allowed: str) -> None:
        """Raise ``InputError`` for the first of the ``bad`` rows [n]."""
        if bad.any():
            row = int(np.argmax(bad))
            found = (self.numbers | self.texts)[column][row].item()
            require(False, f"{self.name}: line {self.lines[row]}: {column}", found, allowed)


def read_columns(path: Path, numbers: Sequence[str], texts: Sequence[str] = ()) -> Columns:
    """The named columns of a CSV file with a header line.

    Raises:
      InputError: no such file, a column that is not there or twice, a row of another length, no number where one is
        needed.
    """
    wanted = [*numbers, *texts]
    kept: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    lines: list[np.ndarray] = []
    try:
        size = path.stat().st_size
        with path.open("rb") as raw, Progress("reading", size, "bytes") as bar:
            rows = csv.reader(io.TextIOWrapper(raw, "utf-8-sig", newline=""))
            header = next(rows, [])
            at = {name: _place(path, header, name) for name in wanted}
            for chunk, ends in _chunks(path, rows, len(header)):
                for name in wanted:
                    cells = [row[at[name]] for row in chunk]
                    kept[name].append(np.array(cells) if name in texts else _numbers(path, name, cells, ends))
                lines.append(np.array(ends))
                read = raw.tell()
                bar.advance(read - bar.done)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"source: got {show(path)}, allowed: a CSV file in UTF-8 ({show(error)})") from error
    require(bool(lines), f"{show(path.name)}", "no row", "a header line, and a line for each decision")
    found = {name: np.concatenate(parts) for name, parts in kept.items()}
    parts = [{name: found[name] for name in names} for names in (numbers, texts)]
    return Columns(path.name, parts[0], parts[1], np.concatenate(lines))


def header_of(path: Path) -> list[str]:
    """The names of the columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"source: got {show(path)}, allowed: a CSV file in UTF-8 ({show(error)})") from error


def matching(path: Path, header: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The columns that the ``patterns`` name, in the order of these; * stands for any letters, also for no column."""
    found: list[str] = []
    for pattern in patterns:
        names = [name for name in header if fnmatchcase(name, pattern)]
        if not names and "*" not in pattern:
            _place(path, header, pattern)
        found += [name for name in names if name not in found]
    return found


def one_hot(columns: Columns, name: str) -> np.ndarray:
    """A column of categories [n] as [n, c] float32, one of c for each different text, in their order."""
    names, index = np.unique(columns.texts[name], return_inverse=True)
    hint = "leave the column out"
    require(len(names) <= MOST_NAMES, f"{columns.name}: {name}", f"{len(names)} texts", f"at most {MOST_NAMES}", hint)
    return np.eye(len(names), dtype=np.float32)[index]


def _place(path: Path, header: Sequence[str], name: str) -> int:
    where = f"{show(path.name)}: column {name!r}"
    if name not in header:
        raise InputError(f"{where}: missing; {near_names(name, header)}")
    require(list(header).count(name) == 1, where, f"{list(header).count(name)} of them", "one")
    return list(header).index(name)


def _chunks(path: Path, rows: Any, width: int) -> Iterator[tuple[list[list[str]], list[int]]]:
    chunk: list[list[str]] = []
    ends: list[int] = []
    for row in rows:
        if not row:  # an empty line
            continue
        allowed = f"{width}, as the header has"
        require(len(row) == width, f"{show(path.name)}: line {rows.line_num}: cells", len(row), allowed)
        chunk.append(row)
        ends.append(rows.line_num)
        if len(chunk) == CHUNK:
            yield chunk, ends
            chunk, ends = [], []
    if chunk:
        yield chunk, ends


def _numbers(path: Path, name: str, cells: list[str], ends: list[int]) -> np.ndarray:
    try:
        found = np.array(cells, np.float64)
    except ValueError:
        for cell, line in zip(cells, ends, strict=True):
            if not _is_number(cell):
                hint = "" if cell else "it is missing"
                require(False, f"{show(path.name)}: line {line}: {name}", cell, "a number", hint)
        raise
    odd = ~np.isfinite(found)
    if odd.any():
        row = int(np.argmax(odd))
        require(False, f"{show(path.name)}: line {ends[row]}: {name}", cells[row], "a finite number")
    return found


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
