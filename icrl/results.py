"""What a finished experiment says: the schema of ``results.json``, and the check that a document follows it.

Everything in the report, the figures and TensorBoard is drawn from this one document, so a number that is not in
``results.json`` is nowhere. Letters: T steps of interaction, P prefix lengths, M logged training steps.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from icrl.errors import InputError, near_names, require

SCHEMA = 1
KINDS = ("model", "ideal", "baseline", "oracle")
UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # terminal escapes, broken characters


class Value(TypedDict):
    """One number with its interval; low <= mean <= high."""

    mean: float
    low: float
    high: float


class Band(TypedDict):
    """A curve with its interval, [T] or [P] each; low <= mean <= high."""

    mean: list[float]
    low: list[float]
    high: list[float]


class AgentCurve(TypedDict):
    """One agent in one evaluation, with the one curve that its section is about."""

    kind: Literal["model", "ideal", "baseline", "oracle"]  # ideal: exact posterior sampling; oracle: knows the task
    label: str  # what readers see, "DPT (ours)"
    interval: str  # how the band was computed, ``Interval.method``
    regret: NotRequired[Band]  # [T] cumulative pseudo-regret in reward units
    suboptimality: NotRequired[Band]  # [P] expected loss of the greedy action in reward units
    returns: NotRequired[Band]  # [E] return of an episode, as it was: never smoothed


class Online(TypedDict):
    """Agents acting and learning for T steps in held-out tasks."""

    steps: list[int]  # [T] 1..T
    agents: dict[str, AgentCurve]


class Offline(TypedDict):
    """Agents acting greedily after a recorded prefix."""

    prefix: list[int]  # [P] transitions shown, >= 0, increasing
    agents: dict[str, AgentCurve]
    num_tasks: NotRequired[int]  # held-out tasks here, where it is not the document's num_tasks


class Episodes(TypedDict):
    """Agents living through E episodes of held-out tasks, their memory kept from one to the next."""

    episode: list[int]  # [E] 1..E
    agents: dict[str, AgentCurve]


class CrossEntropy(TypedDict):
    """Cross-entropy of the optimal action given a prefix, in nats, on held-out tasks."""

    prefix: list[int]  # [P]
    model: Band  # [P]
    ideal: Band | None  # [P] of the exact posterior, the least that can be reached
    gap: Band | None  # [P] model - ideal, paired on the same tasks
    num_tasks: NotRequired[int]  # held-out tasks here, where it is not the document's num_tasks


class Training(TypedDict):
    """What one training seed logged."""

    step: list[int]  # [M]
    loss: list[float]  # [M]
    val_loss: list[float | None] | None  # [M], None where it was not measured


class World(TypedDict):
    """Agents learning in tasks of one family: one row of a leaderboard."""

    steps: list[int]  # [P] in 1..T, increasing
    agents: dict[str, AgentCurve]  # with regret [P]
    num_tasks: int  # held-out tasks here
    optimum: Value  # return of an episode of optimal play, exact in each task
    lower_bound: list[float] | None  # [P] of the regret, asymptotic; None where none is known
    skipped: dict[str, str]  # agents that do not fit, and why


class Diversity(TypedDict):
    """Models pretrained on pools of D tasks each, against the posteriors that memorise the pool and that do not."""

    pool_size: list[int]  # [D] increasing
    pool: dict[str, AgentCurve]  # with regret [D] after all steps, in tasks of the pool
    fresh: dict[str, AgentCurve]  # the same in tasks that no model has met
    prefix: list[int]  # [P] transitions shown, increasing
    distance: list[list[float]]  # [P][D] 0: chooses as the generalising posterior, 1: as the memorising one


class Check(TypedDict):
    """One promise of the experiment and whether it held."""

    what: str
    measured: Value
    target: str  # "<= 1.10"
    ok: bool


class Published(TypedDict):
    """A number from a paper to hold ours against."""

    what: str
    value: float | str
    where: str  # paper, figure or table


class Routing(TypedDict):
    """Which experts of one branch of a mixture serve whom: mean gates, each row sums to 1."""

    branch: str
    groups: list[str]  # [G] kinds of tokens, then sequences
    share: list[list[float]]  # [G][E]


class Table(TypedDict):
    """Numbers side by side that are no curves."""

    title: str
    columns: list[str]
    rows: list[list[str | float | Value]]  # one cell a column
    note: NotRequired[str]  # how they were measured


class Results(TypedDict):
    """The whole document. Sections an experiment does not have are absent or None."""

    schema: int  # SCHEMA
    experiment: str
    preset: str
    seed: int
    train_seeds: list[int]
    env: dict[str, Any]  # {"id": ..., settings ...}
    num_tasks: int  # held-out tasks behind every mean
    num_steps: int  # T
    title: str
    claim: str  # one sentence
    checks: list[Check]
    seconds: dict[str, float]  # wall-clock by part, "total" among them
    device: str
    versions: dict[str, str]
    online: NotRequired[Online | None]
    episodes: NotRequired[Episodes | None]
    offline: NotRequired[Offline | None]
    cross_entropy: NotRequired[CrossEntropy | None]
    worlds: NotRequired[dict[str, World] | None]  # by the environment's name
    diversity: NotRequired[Diversity | None]
    training: NotRequired[dict[str, Training] | None]  # by training seed, or means over seeds by model
    routing: NotRequired[list[Routing] | None]  # of the first model
    tables: NotRequired[list[Table] | None]
    published: NotRequired[list[Published] | None]


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


def to_json(results: Results) -> str:
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


def tasks_behind(results: Results, section: Any) -> int:
    """How many held-out tasks the means of a section (or of the whole document) are over."""
    return (section or {}).get("num_tasks", results["num_tasks"])


def final_rows(results: Results) -> Iterator[tuple[str, AgentCurve, Value, float | None]]:
    """Yield (name, agent, regret after the last step, its ratio to the ideal agent's or None), best agent first."""
    online = results.get("online")
    agents = online["agents"] if online else {}
    finals = {name: last(agent["regret"]) for name, agent in agents.items()}
    ideal = next((finals[name]["mean"] for name, agent in agents.items() if agent["kind"] == "ideal"), 0.0)
    for name in sorted(finals, key=lambda name: finals[name]["mean"]):
        ratio = finals[name]["mean"] / ideal if ideal > 0 else None
        yield name, agents[name], finals[name], ratio


def return_rows(results: Results) -> Iterator[tuple[str, AgentCurve, float, Value]]:
    """Yield (name, agent, mean return over all episodes, return in the last episode), best mean first."""
    episodes = results.get("episodes")
    agents = episodes["agents"] if episodes else {}
    means = {name: sum(agent["returns"]["mean"]) / len(agent["returns"]["mean"]) for name, agent in agents.items()}
    for name in sorted(means, key=lambda name: -means[name]):
        yield name, agents[name], means[name], last(agents[name]["returns"])


def leaderboard(results: Results) -> tuple[list[str], list[tuple[str, str, list[str]]]]:
    """The worlds, and of each agent (kind, label, regret in each as a share of uniform play's), best mean first."""
    worlds = results.get("worlds") or {}
    kinds: dict[str, tuple[str, str]] = {}
    shares: dict[str, dict[str, float]] = {}
    for name, world in worlds.items():
        finals = {player: agent["regret"]["mean"][-1] for player, agent in world["agents"].items()}
        for player, agent in world["agents"].items():
            # the ideal of one world is a baseline in another, so only models and oracles keep their looks
            looks = agent["kind"] in ("model", "oracle")
            kinds[player] = (agent["kind"], agent["label"]) if looks else ("baseline", player)
            found = shares.setdefault(player, {})
            if finals.get("uniform", 0.0) > 0:
                found[name] = finals[player] / finals["uniform"]
    means = {player: sum(row.values()) / max(len(row), 1) for player, row in shares.items()}
    rows = [
        (*kinds[player], ["-" if name not in shares[player] else f"{shares[player][name]:.3f}" for name in worlds])
        for player in sorted(means, key=lambda player: means[player])
    ]
    return list(worlds), rows


def short_number(value: float, digits: int = 3) -> str:
    """``digits`` figures, more only for the whole part: 0, 0.0120, 24.1, 1,234."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits - 1}e}" if places > 8 else f"{value:,.{max(places, 0)}f}"


def format_value(value: Value, digits: int = 3) -> str:
    """A mean with its interval: ``24.1 [23.0, 25.2]``."""
    return "{} [{}, {}]".format(*(short_number(value[key], digits) for key in ("mean", "low", "high")))


def format_cell(cell: str | float | Value) -> str:
    """A cell of a table: text as it is, whole numbers in full, others with three figures."""
    if isinstance(cell, dict):
        return format_value(cell)
    if isinstance(cell, float):
        return short_number(cell)
    return cell if isinstance(cell, str) else f"{cell:,}"


def format_ratio(ratio: float | None) -> str:
    """A ratio to the ideal agent, or a dash where there is none."""
    return "-" if ratio is None else f"{ratio:.3f}"


def last(band: Band) -> Value:
    """The last value of a curve, with its interval."""
    return {"mean": band["mean"][-1], "low": band["low"][-1], "high": band["high"][-1]}


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
