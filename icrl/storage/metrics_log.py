"""The record of metrics: one JSON object a line, appended durably, each line with a checksum of its own."""

import json
import os
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from icrl.core.errors import DamagedError, InputError, require
from icrl.storage.paths import explained, show, sync, write_all
from icrl.storage.publish import publish_file
from icrl.storage.strict_json import decode_json

_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"\}')  # the end of every line
_CRC_LENGTH = len(b',"crc":"01234567"}')


def append_jsonl(path: Path | str, rows: Iterable[dict[str, Any]]) -> None:
    """Append ``rows`` durably, each with the crc32 of its own text; a torn last line is removed first.

    After a failure the file is cut back to what it was, so a full disk costs only the new rows.
    """
    lines = b"".join(_encode_row(row, show(path)) for row in rows)
    with explained(path, len(lines)):
        is_new = not os.path.lexists(path)
        if not is_new and _is_torn(path):
            truncate_jsonl(path, keep=lambda row: True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            size = os.fstat(descriptor).st_size
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


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """Read a metric record. One torn last line is dropped: it was never acknowledged. Other damage is an error."""
    with explained(path):
        *lines, torn = Path(path).read_bytes().split(b"\n")
    rows = [_decode_row(line, f"{show(path)}: line {number}") for number, line in enumerate(lines, start=1)]
    if _checked_text(torn[:-1]) is not None:  # a whole line and one byte more: its newline was changed, not torn off
        raise DamagedError(f"{show(path)}: line {len(rows) + 1}: expected a newline at its end, found {torn[-1:]!r}")
    return rows


def truncate_jsonl(path: Path | str, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite the record with only the rows that ``keep``, so that a resumed run writes no step twice.

    A record that does not exist yet (the run died before its first row) is left so.
    """
    if os.path.lexists(path):
        publish_file(path, b"".join(_encode_row(row, show(path)) for row in read_jsonl(path) if keep(row)))


def _encode_row(row: dict[str, Any], where: str) -> bytes:
    require(bool(row) and "crc" not in row, f"{where}: row", sorted(row), "fields other than crc, at least one")
    try:
        text = json.dumps(row, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: row cannot be written as JSON: {error}") from error
    return text[:-1] + f',"crc":"{zlib.crc32(text):08x}"}}\n'.encode()


def _decode_row(line: bytes, where: str) -> dict[str, Any]:
    text = _checked_text(line)
    row = None if text is None else decode_json(text, where)
    if not isinstance(row, dict):
        raise DamagedError(f"{where}: expected an object that matches its crc, found other bytes")
    return row


def _checked_text(line: bytes) -> bytes | None:
    """The JSON text of a line without its crc field, or None when the two do not agree."""
    text, crc = line[:-_CRC_LENGTH] + b"}", _CRC.fullmatch(line[-_CRC_LENGTH:])
    return text if crc and int(crc[1], 16) == zlib.crc32(text) else None


def _is_torn(path: Path | str) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) not in (b"", b"\n")
