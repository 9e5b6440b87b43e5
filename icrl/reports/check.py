"""The check that a document follows the schema of ``results``, and its text on disk."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast

from icrl.core.errors import require
from icrl.reports.forms import check_kinds
from icrl.reports.schema import SCHEMA, SECTIONS, Results

UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # terminal escapes, broken characters


def check_results(results: Mapping[str, Any]) -> Results:
    """Return ``results`` as plain JSON values (NumPy converted), or raise ``InputError`` naming the field at fault."""
    document = cast(dict[str, Any], _plain("results", results))
    check_kinds("results", document, Results)
    require(document["schema"] == SCHEMA, "results.schema", document["schema"], str(SCHEMA))
    for section in SECTIONS:
        if document.get(section.key) is not None:
            section.check(f"results.{section.key}", document[section.key])
    return cast(Results, document)


def to_json(results: Mapping[str, Any]) -> str:
    """Strict JSON (no NaN), indented, with every list of numbers on one line."""
    text = json.dumps(results, indent=1, allow_nan=False)
    # a line break cannot stand inside a JSON string, so only lists of numbers and nulls match
    return re.sub(r"\[\n[-\d.eE+,\snul]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def _plain(path: str, value: Any) -> Any:
    """Copy ``value`` with NumPy made plain; refuse what strict JSON, a terminal or a page cannot hold."""
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy and of jax
        value = value.tolist()
    if isinstance(value, Mapping):
        for key in value:
            require(isinstance(key, str) and not UNPRINTABLE.search(key), f"{path}: key", key, "printable text")
        return {key: _plain(f"{path}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(f"{path}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, str):
        require(not UNPRINTABLE.search(value), path, value, "printable text")
    elif isinstance(value, float):
        require(math.isfinite(value), path, value, "a finite number")
    else:
        known = value is None or isinstance(value, int)  # bool is an int
        require(known, path, type(value).__name__, "a number, text, bool, None, list or dictionary")
    return value
