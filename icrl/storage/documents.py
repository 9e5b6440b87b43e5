"""JSON documents that hold a digest of themselves: the card of a set, a run's config and results, a selection."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icrl.core.errors import DamagedError, require
from icrl.storage.paths import show
from icrl.storage.publish import publish_json, read_json
from icrl.storage.strict_json import encode_json
from icrl.storage.typed import conform

DIGEST = "sha256"  # the field of a document that holds the digest of all its other fields


def digest_of(body: Any) -> str:
    """The sha256 of a JSON value: equal values have equal digests, however they are spelled."""
    return hashlib.sha256(encode_json(body)).hexdigest()


def sealed(body: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` with its digest."""
    return {**body, DIGEST: digest_of(body)}


def write_document(path: Path | str, body: Mapping[str, Any]) -> None:
    """Publish ``body`` with its digest, replacing what was there."""
    publish_json(path, sealed(body))


def read_document(path: Path | str, form: Any = dict, version: tuple[str, int] | None = None) -> dict[str, Any]:
    """The document at ``path``, without its digest, which must be right.

    Args:
      path: of the file.
      form: what must be in it, see ``typed``.
      version: the field that tells its version, and the one that this package reads.

    Raises:
      InputError: no such file, or one of another version. DamagedError: anything else that is not as it was written.
    """
    where, body = show(path), read_json(path)
    conform(body, dict, where)
    if version is not None:
        field, known = version
        conform(body, {field: int}, where)
        require(body[field] == known, f"{where}: {field}", body[field], f"{known}, or a newer icrl")
    stated, found = body.pop(DIGEST, None), digest_of(body)
    if stated != found:
        told = "no digest of itself" if stated is None else show(repr(stated)[:80])
        raise DamagedError(f"{where}: {DIGEST}: expected {told}, found {found!r}")
    conform(body, form, where)
    return body
