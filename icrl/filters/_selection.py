"""A filter's answer as one small JSON file, tied to the data set it was made for."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import DamagedError, InputError, require, require_int
from icrl.core.registry import filters
from icrl.filters._table import Filter, HistoryTable, Selection
from icrl.storage.documents import read_document, write_document
from icrl.storage.paths import show

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
    write_document(path, body)


def load_selection(path: Path | str, dataset_digest: str) -> tuple[Selection, dict[str, Any]]:
    """The selection stored at ``path`` for the data set with this digest, and its provenance.

    A missing file, one of another schema, or one made for another data set raises ``InputError``; a changed one, or
    one whose indices are out of range, ``DamagedError``.
    """
    selection, origin = read_selection(path)
    if origin["dataset"] != dataset_digest:
        raise InputError(
            f"{show(path)}: dataset: got {origin['dataset']!r}, allowed: {dataset_digest!r}; "
            "the selection was made for another data set, filter this one"
        )
    return selection, origin


def read_selection(path: Path | str) -> tuple[Selection, dict[str, Any]]:
    """As ``load_selection``, whatever data set it was made for."""
    where, fields = show(path), {"schema", "provenance", "index", "first_episode"}
    body = read_document(path, version=("schema", SCHEMA))
    if body.keys() != fields:
        raise DamagedError(f"{where}: expected the fields {', '.join(sorted(fields))}, found others")
    origin = body["provenance"]
    if not isinstance(origin, dict) or origin.keys() != set(PROVENANCE):
        raise DamagedError(f"{where}: provenance: expected the fields {', '.join(PROVENANCE)}, found others")
    if problem := _problem(body):
        raise DamagedError(f"{where}: {problem}")
    return Selection(np.array(body["index"], np.int64), np.array(body["first_episode"], np.int64)), origin


def _problem(body: dict[str, Any]) -> str | None:
    """What is wrong with the indices of a file's ``body``, or None."""
    origin = body["provenance"]
    for field, size in (("index", origin["num_histories"]), ("first_episode", origin["num_episodes"])):
        values = body[field]
        if not isinstance(values, list) or not values:
            return f"{field}: expected a list of numbers, found {type(values).__name__}, or an empty one"
        if type(size) is not int:
            return f"{field}: its limit in the provenance is no integer"
        wrong = [value for value in values if type(value) is not int or not 0 <= value < size]
        if wrong:
            return f"{field}: expected integers in [0, {size}), found {wrong[0]!r}"
    if len(body["index"]) != len(body["first_episode"]):
        return f"first_episode: expected {len(body['index'])} values, found {len(body['first_episode'])}"
    return None
