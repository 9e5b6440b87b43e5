"""Arrays and texts in one file that others read too, in the format of Hugging Face's safetensors: no code in it.

A file is the length of its header (8 bytes, little-endian), the header (JSON: for each array its dtype, its shape and
its range of bytes; texts under ``__metadata__``), and the bytes of the arrays, row-major and without gaps.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from icrl.core.errors import DamagedError
from icrl.storage.paths import explained, show
from icrl.storage.publish import publish_file
from icrl.storage.strict_json import decode_json, encode_json
from icrl.storage.typed import conform

DTYPES = {
    "BOOL": np.dtype(bool), "I8": np.dtype("int8"), "I16": np.dtype("<i2"), "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"), "U8": np.dtype("uint8"), "U16": np.dtype("<u2"), "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16), "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"), "C64": np.dtype("<c8"),
}  # fmt: skip
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_TEXTS = "__metadata__"
_ENTRY = {"dtype": str, "shape": [int], "data_offsets": [int]}
MOST_HEADER = 10**8  # bytes, as the format has it


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> None:
    """Publish ``arrays`` and ``texts`` by name; equal ones make equal bytes."""
    header: dict[str, Any] = {_TEXTS: dict(texts)}
    parts, end = [], 0
    for name in sorted(arrays):
        data = np.ascontiguousarray(arrays[name]).tobytes()
        code, shape = _CODES[arrays[name].dtype], list(arrays[name].shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [end, end + len(data)]}
        parts.append(data)
        end += len(data)
    head = encode_json(header)
    head += b" " * (-len(head) % 8)  # arrays begin at a multiple of 8
    publish_file(path, b"".join([len(head).to_bytes(8, "little"), head, *parts]))


def read_arrays(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the texts in the file at ``path``.

    Raises:
      InputError: no such file. DamagedError: it is cut, too long, or not of this format.
    """
    where = show(path)
    with explained(path):
        data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(MOST_HEADER, len(data) - 8):
        raise DamagedError(f"{where}: expected a safetensors file, found {len(data)} bytes without a whole header")
    header = decode_json(data[8 : 8 + length].rstrip(b" "), where)
    conform(header, dict, where)
    texts = header.pop(_TEXTS, {})
    conform(texts, dict, f"{where}: {_TEXTS}")
    if not all(isinstance(text, str) for text in texts.values()):
        raise DamagedError(f"{where}: {_TEXTS}: expected texts, found other values")
    body, found, expected = memoryview(data)[8 + length :], {}, 0
    for name, entry in header.items():
        conform(entry, _ENTRY, f"{where}: {name}")
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        found[name] = _array(f"{where}: {name}", entry, body, expected)
        expected = entry["data_offsets"][1]
    if expected != len(body):
        raise DamagedError(f"{where}: expected {expected} bytes of arrays, found {len(body)}")
    return found, texts


def _array(where: str, entry: dict[str, Any], body: memoryview, expected: int) -> np.ndarray:
    """The array of an ``entry`` of the header, which begins at byte ``expected`` of the ``body``."""
    dtype, shape, offsets = DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
    if dtype is None or any(not 0 <= size < 2**40 for size in shape):
        raise DamagedError(
            f"{where}: expected a known dtype and a shape, found {entry['dtype'][:20]!r} and {shape[:9]}"
        )
    end = expected + dtype.itemsize * math.prod(shape)
    if offsets != [expected, end] or end > len(body):
        raise DamagedError(f"{where}: expected bytes {expected} to {end} of {len(body)}, found {offsets[:9]}")
    return np.frombuffer(body[expected:end], dtype).reshape(shape)
