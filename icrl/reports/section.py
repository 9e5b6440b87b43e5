"""A section of the report: its key in ``results.json``, the check of its form, and the tables and figures it shows.

The files of ``sections/`` define one each, ``schema.SECTIONS`` puts them in order, and every writer (page, terminal,
TensorBoard, check) loops over that list.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, NotRequired, TypedDict

from icrl.reports.forms import KINDS, AgentCurve, Band


class Head(TypedDict):
    """The facts of ``results.json`` that belong to no section."""

    schema: int  # SCHEMA
    experiment: str
    preset: str
    seed: int
    run: NotRequired[str]  # the identity of the run that measured this
    train_seeds: list[int]
    num_tasks: int  # held-out tasks behind every mean
    num_steps: int  # T
    tasks_were_seen: NotRequired[bool]  # the family has so few tasks that models were trained on those they play in
    title: str
    claim: str  # one sentence
    seconds: dict[str, float]  # wall-clock by part, "total" among them
    device: str
    versions: dict[str, str]


class Row(NamedTuple):
    """One row of a table, as text."""

    look: str  # a kind of agent, the verdict "ok" or "not-ok", or ""
    cells: list[str]  # one a column


class Table(NamedTuple):
    """Text in rows, for people."""

    title: str
    columns: list[str]
    rows: list[Row]
    note: str = ""
    details: tuple[str, ...] = ()  # columns that a narrow terminal leaves out
    is_appendix: bool = False  # a table that is left out of the terminal as a whole


class Figure(NamedTuple):
    """A picture with its caption; nothing is drawn before ``draw`` is called."""

    name: str  # file stem
    caption: str  # what is drawn, over how many tasks, and what the band is
    draw: Callable[[], Any]  # returns a matplotlib Figure


class Curves(NamedTuple):
    """Which curves of a section's ``agents`` become scalars of TensorBoard."""

    axis: str  # key of the list of steps
    field: str  # of ``AgentCurve``
    title: str  # of the charts


class Number(NamedTuple):
    """One row of the flat table: one number that a section holds."""

    env: str  # the name of an environment; "" of a section: the document's
    section: str
    agent: str  # or the variant, or what else is measured
    kind: str  # of an agent; "" of what is none
    measure: str
    axis: str  # what ``at`` counts: step, episode, prefix, ...; "" for a number that is no point of a curve
    at: int | None
    mean: float
    low: float | None  # None: without an interval
    high: float | None
    seeds: int | None  # training seeds behind it
    tasks: int | None  # behind it; None here and there: none, or it is not told


class Section(NamedTuple):
    """One section; ``check``, ``show`` and ``numbers`` are called only where the document has it."""

    key: str  # in ``results.json``
    check: Callable[[str, Any], None]  # (path, the section): raises ``InputError`` that names the field at fault
    show: Callable[[Any, Head], Iterable[Table | Figure]]  # in the order in which they are read
    curves: Curves | None = None
    numbers: Callable[[Any, Head], Iterable[Number]] | None = None  # all it holds; None: none of ours


def agents_table(
    title: str, columns: list[str], rows: Iterable[tuple[AgentCurve, list[str]]], note: str = "", appendix: bool = False
) -> Table:
    """A table with one row an agent: label, kind, the cells of ``columns``, and how its interval was computed."""
    body = [
        Row(agent["kind"], [agent["label"], KINDS[agent["kind"]], *cells, agent["interval"]]) for agent, cells in rows
    ]
    return Table(title, ["agent", "kind", *columns, "interval"], body, note, ("kind", "interval"), appendix)


def tasks_in_words(head: Head, section: Any = None, unseen: str = "unseen tasks") -> str:
    """The tasks behind the means of a section, or of the whole document: "200 unseen tasks"."""
    count = (section or {}).get("num_tasks", head["num_tasks"])
    return f"{count:,} {'rollouts in tasks seen in training' if head.get('tasks_were_seen') else unseen}"


def curve_numbers(part: Any, head: Head, key: str, name: str, axis: str, field: str, env: str = "") -> Iterator[Number]:
    """The curves ``field`` of all agents of the section ``name``, over its list ``key``, which counts ``axis``."""
    tasks = part.get("num_tasks", head["num_tasks"])
    for agent, curves in part["agents"].items():
        seeds = len(head["train_seeds"]) if curves["kind"] == "model" else 1
        facts = env, name, agent, curves["kind"], field, axis
        yield from band_numbers(facts, part[key], curves[field], seeds, tasks)


def band_numbers(
    facts: tuple[str, str, str, str, str, str], at: list[int], band: Band, seeds: int, tasks: int | None
) -> Iterator[Number]:
    """One number a point of a curve; ``facts`` are those of ``Number`` in front of ``at``."""
    for x, mean, low, high in zip(at, band["mean"], band["low"], band["high"], strict=True):
        yield Number(*facts, x, mean, low, high, seeds, tasks)
