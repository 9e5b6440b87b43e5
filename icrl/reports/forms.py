"""What sections of ``results.json`` are made of: numbers and curves with their intervals, and the checks of their form.

Letters: T steps of interaction, P prefix lengths, E episodes.
"""

import types
from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from icrl.core.errors import near_names, require

PLAIN = {
    int: "an integer of 64 bits",
    float: "a number",
    str: "a text",
    bool: "true or false",
    types.NoneType: "null",
    list: "a list",
    dict: "a dictionary",
}
KINDS = {"model": "trained model", "ideal": "ideal", "baseline": "baseline", "oracle": "oracle (knows the task)"}


class Value(TypedDict):
    """One number with its interval; low <= mean <= high."""

    mean: float
    low: float
    high: float


class Band(TypedDict):
    """A curve with its interval, [T], [P] or [E] each; low <= mean <= high."""

    mean: list[float]
    low: list[float]
    high: list[float]


class AgentCurve(TypedDict):
    """One agent in one evaluation, with the one curve that its section is about."""

    kind: Literal["model", "ideal", "baseline", "oracle"]  # ideal: exact posterior sampling; oracle: knows the task
    label: str  # what readers see, "DPT (ours)"
    interval: str  # how the band was computed, ``Interval.method``
    tuned_from: NotRequired[str]  # the agent in the same section of which these are the settings chosen by tuning
    regret: NotRequired[Band]  # [T] cumulative pseudo-regret in reward units
    suboptimality: NotRequired[Band]  # [P] expected loss of the greedy action in reward units
    loss: NotRequired[Band]  # loss of predictions, in the unit that the section says
    accuracy: NotRequired[Band]  # [T] share of predictions that are right
    returns: NotRequired[Band]  # [E] return of an episode, as it was: never smoothed


def last(band: Band) -> Value:
    """The last value of a curve, with its interval."""
    return {"mean": band["mean"][-1], "low": band["low"][-1], "high": band["high"][-1]}


def drawn(agents: dict[str, AgentCurve]) -> dict[str, AgentCurve]:
    """Those that a chart shows: of an agent that was tuned its chosen settings alone, tables have both."""
    tuned = {agent["tuned_from"]: name for name, agent in agents.items() if "tuned_from" in agent}
    return {name: agent for name, agent in agents.items() if tuned.get(name, name) == name}


def tuning_in_words(agents: dict[str, AgentCurve]) -> str:
    """What the caption of a chart of ``agents`` says of their settings; empty if nobody was tuned."""
    tuned = any("tuned_from" in agent for agent in agents.values())
    return " Competitors with the settings that tuning chose; the table has their defaults too." if tuned else ""


def check_dictionary(path: str, found: Any) -> None:
    """Refuse what is no dictionary."""
    require(isinstance(found, dict), path, type(found).__name__, "a dictionary")


def check_keys(path: str, found: Any, form: Any) -> None:
    """Refuse a dictionary that lacks a required key of the TypedDict ``form`` or holds an unknown one."""
    check_dictionary(path, found)
    for key in found:
        require(key in form.__annotations__, f"{path}: key", key, near_names(key, form.__annotations__))
    for key in sorted(form.__required_keys__):
        require(key in found, path, sorted(found), f"a dictionary with {key!r}")


def check_kinds(path: str, value: Any, form: Any) -> None:
    """Refuse JSON that is not of the annotation ``form``: a TypedDict, a list or dictionary of a form, or plain kinds.

    Names of keys are for ``check_keys``, and so is what a key must be there for.
    """
    if is_typeddict(form):
        check_keys(path, value, form)
        hints = get_type_hints(form)
        for key, inner in value.items():
            check_kinds(f"{path}.{key}", inner, hints[key])
        return
    origin, given = get_origin(form), get_args(form)
    if origin in (types.UnionType, Union):
        either = [each for each in given if _is_of(value, get_origin(each) or (dict if is_typeddict(each) else each))]
        require(bool(either), path, value, " or ".join(map(_in_words, given)))
        check_kinds(path, value, either[0])
    elif origin is Literal:
        require(value in given, path, value, ", ".join(map(str, given)))
    elif form is not Any:
        require(_is_of(value, origin or form), path, value, _in_words(form))
        for key, inner in value.items() if origin is dict else enumerate(value) if origin is list else ():
            check_kinds(f"{path}.{key}" if origin is dict else f"{path}[{key}]", inner, given[-1])


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return kind in (int, float) and -(2**63) <= value < 2**63
    return isinstance(value, kind)


def _in_words(form: Any) -> str:
    return PLAIN[dict if is_typeddict(form) else get_origin(form) or form]


def check_value(path: str, value: Any) -> None:
    """Refuse what is no ``Value``."""
    check_keys(path, value, Value)
    require(value["low"] <= value["mean"] <= value["high"], path, value, "low <= mean <= high")


def check_band(path: str, band: Any, length: int) -> None:
    """Refuse what is no ``Band`` of ``length`` points."""
    check_keys(path, band, Band)
    for key, values in band.items():
        require(isinstance(values, list), f"{path}.{key}", type(values).__name__, "a list of numbers")
        require(len(values) == length, f"{path}.{key}", f"{len(values)} values", f"{length} values, one per point")
    for index, (mean, low, high) in enumerate(zip(band["mean"], band["low"], band["high"], strict=True)):
        check_value(f"{path}[{index}]", {"mean": mean, "low": low, "high": high})


def check_curves(path: str, agents: dict[str, Any], field: str, length: int) -> None:
    """Refuse agents by name that are no ``AgentCurve`` with a ``field`` of ``length`` points."""
    for name, agent in agents.items():
        place = f"{path}.{name}"
        check_keys(place, agent, AgentCurve)
        require(agent["kind"] in list(KINDS), f"{place}.kind", agent["kind"], ", ".join(KINDS))
        require(field in agent, place, sorted(agent), f"a dictionary with {field!r}")
        check_band(f"{place}.{field}", agent[field], length)


def check_agents(path: str, section: Any, form: Any, axis: str, field: str) -> None:
    """Refuse what is no TypedDict ``form``, whose ``agents`` have each a curve ``field`` over the list ``axis``."""
    check_keys(path, section, form)
    require(len(section[axis]) >= 1, f"{path}.{axis}", section[axis], "at least one value")
    require(len(section["agents"]) >= 1, f"{path}.agents", section["agents"], "at least one agent")
    check_curves(f"{path}.agents", section["agents"], field, len(section[axis]))


def intervals_in_words(agents: Iterable[AgentCurve]) -> str:
    """Every interval method in use, once, with the labels of its agents; the commonest one is that of all others."""
    labels: dict[str, list[str]] = {}
    for agent in agents:
        labels.setdefault(agent["interval"], []).append(agent["label"])
    common = max(labels, key=lambda method: len(labels[method]))
    special = [f"{', '.join(names)}: {method}" for method, names in labels.items() if method != common]
    return "; ".join([*special, f"all others: {common}" if special else common])
