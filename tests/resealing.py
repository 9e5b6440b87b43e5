"""Hostile files whose digests are right: what a reader finds behind them must still be of the right kind."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from icrl.storage.strict_json import encode_json

OTHER_KINDS = (None, -1, 2**70, 1.5, True, "x", "\x1b[31m\n", [], [None], {}, {"a": [1]})


def digest_of(body: Any) -> str:
    return hashlib.sha256(encode_json(body)).hexdigest()


def reseal_folder(folder: Path, change: Callable[[dict], None] = lambda manifest: None) -> None:
    """Give a published folder the manifest of the files that are in it now, changed by ``change``."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    change(manifest)
    manifest.pop("digest")
    (folder / "manifest.json").write_bytes(encode_json({**manifest, "digest": digest_of(manifest)}))


def reseal_document(path: Path, change: Callable[[dict], Any]) -> None:
    """Change a document that holds its own digest, and the digest with it."""
    document = json.loads(path.read_text())
    document.pop("sha256", None)
    document = change(document) or document
    path.write_bytes(
        encode_json({**document, "sha256": digest_of(document)} if isinstance(document, dict) else document)
    )


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The path of every value in a document, itself left out."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*at, key)
        yield from places(each, (*at, key))


def put(document: Any, at: tuple, value: Any) -> None:
    for key in at[:-1]:
        document = document[key]
    document[at[-1]] = value


def remove(document: Any, at: tuple) -> None:
    for key in at[:-1]:
        document = document[key]
    del document[at[-1]]
