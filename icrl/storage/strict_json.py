"""The one text form of values on disk: strict JSON, so that equal values have equal bytes and equal digests."""

import json
import math
from typing import Any

from icrl.core.errors import DamagedError, InputError


def encode_json(value: Any, what: str = "value") -> bytes:
    """The one byte form of a JSON value, so that equal values have equal digests."""
    try:
        return (json.dumps(value, sort_keys=True, allow_nan=False, indent=1) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what}: cannot be written as JSON: {error}") from error


def decode_json(data: bytes, where: str) -> Any:
    """Strict JSON from bytes; duplicate keys, NaN, infinity or broken text are a ``DamagedError`` naming ``where``."""

    def number(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError(f"the number {text} is not finite")
        return float(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
        return value

    try:
        return json.loads(data.decode(), object_pairs_hook=unique, parse_constant=number, parse_float=number)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where}: not strict JSON: {error}") from error
