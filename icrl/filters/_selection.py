"""A filter's answer as one small JSON file, tied to the data set it was made for."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import DamagedError, InputError, require, require_int
from icrl.core.registry import filters
from icrl.filters._table import Filter, HistoryTable, Selection
from icrl.storage.paths import show
from icrl.storage.publish import publish_json, read_json
from icrl.storage.strict_json import encode_json

SCHEMA = 1
PROVENANCE = ("filter", "settings", "seed", "dataset", "num_histories", "num_episodes")


def provenance_of(name: str, settings: Filter, table: HistoryTable, seed: int, dataset_digest: str) -> dict[str, Any]:
    """Where a selection comes from: the filter's registered name, its settings, the seed and the data set."""
    require(isinstance(settings, filters[name]), "settings", type(settings).__name__, filters[name].__name__)
    num_histories, num_episodes = np.shape(table.returns)
    values = (name, dataclasses.asdict(settings), seed, dataset_digest, num_histories, num_episodes)  # type: ignore[call-overload]
    return dict(zip(PROVENANCE, values, strict=True))


def save_selection(path: Path | str, selection: Selection, provenance: dict[str, Any]) -> None:
    """Publish ``selection`` at ``path`` with its ``provenance``, a dictionary as ``provenance_of`` makes it.

    A selection that does not fit its provenance raises ``InputError``; a file that was there is replaced.
    """
    require(provenance.keys() == set(PROVENANCE), "provenance", sorted(provenance), ", ".join(sorted(PROVENANCE)))
    for field in ("num_histories", "num_episodes"):
        require_int(field, provenance[field], 1, 2**31 - 1)
    body = {
        "schema": SCHEMA,
        "provenance": provenance,
        "index": np.asarray(selection.index).tolist(),
        "first_episode": np.asarray(selection.first_episode).tolist(),
    }
    problem = _problem(body)
    require(problem is None, "selection", problem, "whole numbers in range, as many first episodes as indices")
    publish_json(path, {**body, "sha256": _digest(body)})


def load_selection(path: Path | str, dataset_digest: str) -> tuple[Selection, dict[str, Any]]:
    """The selection stored at ``path`` for the data set with this digest, and its provenance.

    A missing file, one of another schema, or one made for another data set raises ``InputError``; a changed one, or
    one whose indices are out of range, ``DamagedError``.
    """
    where, stored = show(path), read_json(path)
    fields = {"schema", "provenance", "index", "first_episode", "sha256"}
    if not isinstance(stored, dict) or stored.keys() != fields:
        raise DamagedError(f"{where}: expected the fields {', '.join(sorted(fields))}, found others")
    body = {field: stored[field] for field in fields - {"sha256"}}
    if stored["sha256"] != _digest(body):
        raise DamagedError(f"{where}: sha256: expected {stored['sha256']!r}, found {_digest(body)!r}")
    require(stored["schema"] == SCHEMA, f"{where}: schema", stored["schema"], str(SCHEMA))
    origin = stored["provenance"]
    if not isinstance(origin, dict) or origin.keys() != set(PROVENANCE):
        raise DamagedError(f"{where}: provenance: expected the fields {', '.join(PROVENANCE)}, found others")
    if origin["dataset"] != dataset_digest:
        raise InputError(
            f"{where}: dataset: got {origin['dataset']!r}, allowed: {dataset_digest!r}; "
            "the selection was made for another data set, filter this one"
        )
    if problem := _problem(body):
        raise DamagedError(f"{where}: {problem}")
    return Selection(np.array(stored["index"], np.int64), np.array(stored["first_episode"], np.int64)), origin


def _problem(body: dict[str, Any]) -> str | None:
    """What is wrong with the indices of a file's ``body``, or None."""
    origin = body["provenance"]
    for field, size in (("index", origin["num_histories"]), ("first_episode", origin["num_episodes"])):
        values = body[field]
        if not isinstance(values, list) or not values:
            return f"{field}: expected a list of numbers, found {type(values).__name__}, or an empty one"
        if type(size) is not int:
            return f"{field}: its limit in the provenance is no integer"
        wrong = next((value for value in values if type(value) is not int or not 0 <= value < size), None)
        if wrong is not None:
            return f"{field}: expected integers in [0, {size}), found {wrong!r}"
    if len(body["index"]) != len(body["first_episode"]):
        return f"first_episode: expected {len(body['index'])} values, found {len(body['first_episode'])}"
    return None


def _digest(body: dict[str, Any]) -> str:
    """sha256 over everything else in the file, so that a changed setting or digest is found as well as an index."""
    return hashlib.sha256(encode_json(body)).hexdigest()
