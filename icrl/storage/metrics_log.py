"""The record of metrics: one JSON object a line, appended durably, each line with a checksum of all lines so far.

The checksum of a line covers its own text and the checksum of the line before. Rows that were taken out, exchanged or
doubled are therefore found as well as changed ones; how many rows there must be at least is for others to know (a
checkpoint holds the ``Head`` of its rows).
"""

import json
import os
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from icrl.core.errors import DamagedError, InputError, require
from icrl.storage.paths import explained, show, sync, write_all
from icrl.storage.publish import publish_file
from icrl.storage.strict_json import decode_json
from icrl.storage.typed import conform

TRAINING = {"seed": int, "step": int, "loss": float}  # form of the rows that training writes
# fields of such rows that no two machines agree about; memory is the most that the process has held so far
OF_MACHINE = ("steps_per_second", "tokens_per_second", "env_steps_per_second", "memory_mib", "device_memory_mib")
_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"\}')  # the end of every line
_CRC_LENGTH = len(b',"crc":"01234567"}')


class Head(NamedTuple):
    """Where a chain of rows has come to."""

    rows: int
    crc: str  # of the last of them, "00000000" when there is none


NO_ROWS = Head(0, "00000000")


def head_of(rows: Iterable[dict[str, Any]], start: Head = NO_ROWS) -> Head:
    """The head of the chain of these rows alone, behind those of ``start``."""
    number, crc = start.rows, int(start.crc, 16)
    for row in rows:
        number, crc = number + 1, zlib.crc32(_text(row, "row"), crc)
    return Head(number, f"{crc:08x}")


def append_jsonl(path: Path | str, rows: Iterable[dict[str, Any]]) -> None:
    """Append ``rows`` durably behind those that are there; a torn last line is removed first.

    After a failure the file is cut back to what it was, so a full disk costs only the new rows.
    """
    where, rows = show(path), list(rows)
    needed = sum(len(_text(row, where)) + _CRC_LENGTH for row in rows)  # refuses rows before the file is touched
    with explained(path, needed):
        is_new = not os.path.lexists(path)
        if not is_new and _is_torn(path):
            truncate_jsonl(path, keep=lambda row: True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            lines = _encode(rows, where, _last_crc(descriptor, size, where))
            try:
                write_all(descriptor, lines)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            sync(Path(path).parent)


def read_jsonl(path: Path | str, form: Any = dict) -> list[dict[str, Any]]:
    """Read a metric record whose rows are of ``form`` (see ``typed``).

    One torn last line is dropped: it was never acknowledged. Other damage, and rows of another form, are an error.
    """
    with explained(path):
        *lines, torn = Path(path).read_bytes().split(b"\n")
    rows, crc, where = [], 0, show(path)
    for number, line in enumerate(lines, start=1):
        text = _checked_text(line, crc)
        if text is None:
            raise DamagedError(f"{where}: line {number}: expected an object that matches its crc, found other bytes")
        crc = int(line[-10:-2], 16)
        rows.append(decode_json(text, f"{where}: line {number}"))
        conform(rows[-1], form, f"{where}: line {number}")
    if _checked_text(torn[:-1], crc) is not None:  # a whole line and one byte more: its newline was changed
        raise DamagedError(f"{where}: line {len(rows) + 1}: expected a newline at its end, found {torn[-1:]!r}")
    return rows


def require_rows(path: Path | str, seed: int, step: int, head: Head) -> None:
    """Raise ``DamagedError`` unless the rows of ``seed`` up to ``step`` are those that a checkpoint tells of."""
    rows = read_jsonl(path, TRAINING) if os.path.lexists(path) else []
    found = head_of(row for row in rows if row["seed"] == seed and row["step"] <= step)
    if found != head:
        raise DamagedError(
            f"{show(path)}: expected {head.rows} rows of seed {seed} up to step {step} (crc {show(head.crc)}), as the "
            f"checkpoint says, found {found.rows} (crc {found.crc})"
        )


def last_step(path: Path | str, seed: int) -> int:
    """The last step of which the record has a row of ``seed``; 0 without any."""
    rows = read_jsonl(path, TRAINING) if os.path.lexists(path) else []
    return max((row["step"] for row in rows if row["seed"] == seed), default=0)


def truncate_jsonl(path: Path | str, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite the record with only the rows that ``keep``, so that a resumed run writes no step twice.

    A record that does not exist yet (the run died before its first row) is left so.
    """
    if os.path.lexists(path):
        publish_jsonl(path, [row for row in read_jsonl(path) if keep(row)])


def publish_jsonl(path: Path | str, rows: Iterable[dict[str, Any]]) -> None:
    """Replace the record by one of these ``rows``; it appears whole."""
    publish_file(path, _encode(rows, show(path), 0))


def _encode(rows: Iterable[dict[str, Any]], where: str, crc: int) -> bytes:
    """The lines of ``rows`` behind one whose checksum is ``crc``."""
    lines = []
    for row in rows:
        text = _text(row, where)
        crc = zlib.crc32(text, crc)
        lines.append(text[:-1] + f',"crc":"{crc:08x}"}}\n'.encode())
    return b"".join(lines)


def _text(row: dict[str, Any], where: str) -> bytes:
    require(bool(row) and "crc" not in row, f"{where}: row", sorted(row), "fields other than crc, at least one")
    try:
        return json.dumps(row, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: row cannot be written as JSON: {error}") from error


def _checked_text(line: bytes, before: int) -> bytes | None:
    """The JSON text of a line without its crc field, or None when it is not the one behind a line of crc ``before``."""
    text, crc = line[:-_CRC_LENGTH] + b"}", _CRC.fullmatch(line[-_CRC_LENGTH:])
    return text if crc and int(crc[1], 16) == zlib.crc32(text, before) else None


def _last_crc(descriptor: int, size: int, where: str) -> int:
    """The checksum of the last line of an open record, 0 when it is empty."""
    if size == 0:
        return 0
    end = os.pread(descriptor, _CRC_LENGTH + 1, max(size - _CRC_LENGTH - 1, 0))
    crc = _CRC.fullmatch(end[:-1])
    if crc is None:
        raise DamagedError(f"{where}: its last line: expected a crc at its end, found {end[-40:]!r}")
    return int(crc[1], 16)


def _is_torn(path: Path | str) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) not in (b"", b"\n")
