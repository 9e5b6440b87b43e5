"""The check that a document follows the schema of ``results``, and its text on disk."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast

from icrl.core.errors import InputError, near_names, require
from icrl.reports.schema import (
    KINDS,
    SCHEMA,
    AgentCurve,
    Band,
    Check,
    CrossEntropy,
    Diversity,
    Episodes,
    Offline,
    Online,
    Published,
    Results,
    Routing,
    Table,
    Training,
    Value,
    World,
)

UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # terminal escapes, broken characters


def check_results(results: Mapping[str, Any]) -> Results:
    """Return ``results`` as plain JSON values (NumPy converted), or raise ``InputError`` naming the field at fault."""
    document = cast(dict[str, Any], _plain("results", results))
    _check_keys("results", document, Results)
    require(document["schema"] == SCHEMA, "results.schema", document["schema"], str(SCHEMA))
    _check_axis("results.online", document.get("online"), "steps", "regret", Online)
    _check_axis("results.episodes", document.get("episodes"), "episode", "returns", Episodes)
    _check_axis("results.offline", document.get("offline"), "prefix", "suboptimality", Offline)
    for name, world in (document.get("worlds") or {}).items():
        _check_world(f"results.worlds.{name}", world)
    _check_diversity(document.get("diversity"))
    _check_cross_entropy(document.get("cross_entropy"))
    for seed, curve in (document.get("training") or {}).items():
        _check_training(f"results.training.{seed}", curve)
    for index, check in enumerate(document["checks"]):
        _check_keys(f"results.checks[{index}]", check, Check)
        _check_order(f"results.checks[{index}].measured", check["measured"])
    for index, row in enumerate(document.get("published") or []):
        _check_keys(f"results.published[{index}]", row, Published)
    for index, branch in enumerate(document.get("routing") or []):
        path = f"results.routing[{index}]"
        _check_keys(path, branch, Routing)
        alike = len({len(row) for row in branch["share"]}) == 1 and len(branch["share"]) == len(branch["groups"])
        require(alike, f"{path}.share", f"{len(branch['share'])} rows", f"{len(branch['groups'])} rows of one length")
    for index, table in enumerate(document.get("tables") or []):
        _check_table(f"results.tables[{index}]", table)
    return cast(Results, document)


def to_json(results: Mapping[str, Any]) -> str:
    """Strict JSON (no NaN), indented, with every list of numbers on one line."""
    text = json.dumps(results, indent=1, allow_nan=False)
    # a line break cannot stand inside a JSON string, so only lists of numbers and nulls match
    return re.sub(r"\[\n[-\d.eE+,\snul]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def from_json(text: str) -> Results:
    """Read what ``to_json`` wrote; NaN, infinities and repeated keys are refused."""
    try:
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise InputError(f"results.json: not JSON ({error})") from error
    return check_results(document)


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


def _check_keys(path: str, found: Any, form: Any) -> None:
    """Refuse a dictionary that lacks a required key of the TypedDict ``form`` or holds an unknown one."""
    require(isinstance(found, dict), path, type(found).__name__, "a dictionary")
    for key in found:
        require(key in form.__annotations__, f"{path}: key", key, near_names(key, form.__annotations__))
    for key in sorted(form.__required_keys__):
        require(key in found, path, sorted(found), f"a dictionary with {key!r}")


def _check_axis(path: str, section: Any, axis: str, field: str, form: Any) -> None:
    if section is None:
        return
    _check_keys(path, section, form)
    require(len(section[axis]) >= 1, f"{path}.{axis}", section[axis], "at least one value")
    require(len(section["agents"]) >= 1, f"{path}.agents", section["agents"], "at least one agent")
    for name, agent in section["agents"].items():
        _check_agent(f"{path}.agents.{name}", agent, field, len(section[axis]))


def _check_agent(place: str, agent: Any, field: str, length: int) -> None:
    _check_keys(place, agent, AgentCurve)
    require(agent["kind"] in KINDS, f"{place}.kind", agent["kind"], ", ".join(KINDS))
    require(field in agent, place, sorted(agent), f"a dictionary with {field!r}")
    _check_band(f"{place}.{field}", agent[field], length)


def _check_world(path: str, world: Any) -> None:
    _check_axis(path, world, "steps", "regret", World)
    _check_order(f"{path}.optimum", world["optimum"])
    bound, length = world["lower_bound"], len(world["steps"])
    require(bound is None or len(bound) == length, f"{path}.lower_bound", bound, f"{length} values, one per point")


def _check_diversity(section: Any) -> None:
    if section is None:
        return
    path = "results.diversity"
    _check_keys(path, section, Diversity)
    for part in ("pool", "fresh"):
        for name, agent in section[part].items():
            _check_agent(f"{path}.{part}.{name}", agent, "regret", len(section["pool_size"]))
    sizes = [len(section["prefix"]), *(len(row) for row in section["distance"])]
    wanted = [len(section["distance"]), *[len(section["pool_size"])] * len(section["prefix"])]
    require(sizes == wanted, f"{path}.distance", sizes, f"rows as many as prefixes, of one value a pool: {wanted}")


def _check_cross_entropy(section: Any) -> None:
    if section is None:
        return
    path = "results.cross_entropy"
    _check_keys(path, section, CrossEntropy)
    require(len(section["prefix"]) >= 1, f"{path}.prefix", section["prefix"], "at least one value")
    for field in ("model", "ideal", "gap"):
        if field == "model" or section[field] is not None:
            _check_band(f"{path}.{field}", section[field], len(section["prefix"]))


def _check_training(path: str, curve: Any) -> None:
    _check_keys(path, curve, Training)
    for field in ("loss", "val_loss"):
        if curve[field] is not None or field == "loss":
            require(
                len(curve[field]) == len(curve["step"]),
                f"{path}.{field}",
                f"{len(curve[field])} values",
                f"as many as steps, {len(curve['step'])}",
            )


def _check_table(path: str, table: Any) -> None:
    _check_keys(path, table, Table)
    for number, row in enumerate(table["rows"]):
        place, wanted = f"{path}.rows[{number}]", f"{len(table['columns'])} cells, one a column"
        require(isinstance(row, list) and len(row) == len(table["columns"]), place, row, wanted)
        for cell in row:
            if isinstance(cell, dict):
                _check_order(place, cell)


def _check_band(path: str, band: Any, length: int) -> None:
    _check_keys(path, band, Band)
    for key, values in band.items():
        require(isinstance(values, list), f"{path}.{key}", type(values).__name__, "a list of numbers")
        require(len(values) == length, f"{path}.{key}", f"{len(values)} values", f"{length} values, one per point")
    for index, (mean, low, high) in enumerate(zip(band["mean"], band["low"], band["high"], strict=True)):
        _check_order(f"{path}[{index}]", {"mean": mean, "low": low, "high": high})


def _check_order(path: str, value: Any) -> None:
    _check_keys(path, value, Value)
    ordered = value["low"] <= value["mean"] <= value["high"]
    require(ordered, path, value, "low <= mean <= high")


def _refuse_constant(name: str) -> Any:
    raise InputError(f"results.json: got {name}, allowed: finite numbers")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    require(len(document) == len(pairs), "results.json: keys", [key for key, _ in pairs], "each key once")
    return document
