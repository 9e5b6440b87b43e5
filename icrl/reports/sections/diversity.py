"""Models pretrained on more and more tasks: whether they memorise their pool or generalise."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import INK, chart
from icrl.reports.forms import AgentCurve, check_curves, check_keys, check_kinds
from icrl.reports.lines import agents_chart
from icrl.reports.numbers import short_number
from icrl.reports.section import Figure, Head, Number, Row, Section, Table, band_numbers


class Diversity(TypedDict):
    """Models pretrained on pools of D tasks each, against the posteriors that memorise the pool and that do not."""

    loss_in_words: NotRequired[str]  # of models that predict: the unit of their loss, which takes the place of regret
    pool_size: list[int]  # [D] increasing
    pool: dict[str, AgentCurve]  # with regret [D] after all steps, or loss [D], in tasks of the pool
    fresh: dict[str, AgentCurve]  # the same in tasks that no model has met
    prefix: list[int]  # [P] transitions shown, increasing
    distance: list[list[float]]  # [P][D] 0: chooses as the generalising posterior, 1: as the memorising one


class Words(NamedTuple):
    """How the measure of a section is spoken of."""

    field: str  # of ``AgentCurve``
    name: str
    unit: str  # of its axis
    caption: str
    compared: str  # what the relative distance is a distance of
    shown: str  # what prefixes count


ACTING = Words(
    "regret",
    "Regret",
    "final pseudo-regret",
    "Pseudo-regret after all steps",
    "choice probabilities",
    "transitions",
)


def _words(section: Diversity) -> Words:
    unit = section.get("loss_in_words")
    if unit is None:
        return ACTING
    return Words("loss", "Loss", unit, f"Loss ({unit}), mean over all examples,", "predictions", "examples")


def _check(path: str, section: Any) -> None:
    check_keys(path, section, Diversity)
    check_kinds(f"{path}.loss_in_words", section.get("loss_in_words", ""), str)
    num_pools, field = len(section["pool_size"]), _words(section).field
    for part in ("pool", "fresh"):
        check_curves(f"{path}.{part}", section[part], field, num_pools)
    sizes = [len(section["prefix"]), *(len(row) for row in section["distance"])]
    expected = [len(section["distance"]), *[num_pools] * len(section["prefix"])]
    require(sizes == expected, f"{path}.distance", sizes, f"rows as many as prefixes, of one value a pool: {expected}")


def _show(section: Diversity, head: Head) -> Iterator[Figure | Table]:
    sizes, axis_title = section["pool_size"], "tasks in the pretraining pool"
    words = _words(section)
    caption = (
        f"{words.caption} of models pretrained on so many tasks, beside the posterior over that very pool and, dashed "
        "black, over the whole distribution. Bands: 95 % intervals."
    )
    rows = []
    for place, agents, within, where in (
        ("pool", section["pool"], "in the pool", "tasks of the pretraining pool"),
        ("fresh", section["fresh"], "fresh", "tasks that were in no pool"),
    ):
        title, labels = f"{words.name} in {where}", (axis_title, words.unit)
        draw = partial(agents_chart, title, agents, words.field, sizes, labels, log=True)
        yield Figure(f"{place}_{words.field}", caption, draw)
        for agent in agents.values():
            cells = [short_number(value) for value in agent[words.field]["mean"]]  # type: ignore[literal-required]
            rows.append(Row(agent["kind"], [f"{agent['label']}, {within}", *cells]))
    caption = (
        f"Whose {words.compared} the model's are like on recorded prefixes in fresh tasks: 0 the posterior over the "
        f"task distribution, 1 the posterior over the pool. {_divergence(words)}, averaged."
    )
    yield Figure("relative_distance", caption, partial(_draw_distance, section, axis_title))
    over = f"after {head['num_steps']:,} steps" if words is ACTING else f"over {head['num_steps']:,} examples"
    title = f"{words.name} {over} by diversity of the pretraining"
    yield Table(title, ["pretraining tasks", *(f"{size:,}" for size in sizes)], rows)


def _divergence(words: Words) -> str:
    return "Symmetrised Kullback-Leibler divergences" if words is ACTING else "Distances"


def _draw_distance(section: Diversity, x_label: str) -> Any:
    """A heat map: whose choices the model's are like, by number of pretraining tasks and prefix."""
    subtitle = "0: as the posterior of the task distribution; 1: as the posterior over the pool alone"
    y_label = f"{_words(section).shown} in the prefix"
    figure, axes = chart("Does the model generalise or memorise?", subtitle, x_label, y_label)
    axes.grid(False)
    distance = np.clip(section["distance"], 0.0, 1.0)
    drawn = axes.imshow(distance, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto", origin="lower")
    axes.set_xticks(range(len(section["pool_size"])), [f"{size:,}" for size in section["pool_size"]])
    axes.set_yticks(range(len(section["prefix"])), [f"{prefix:,}" for prefix in section["prefix"]])
    for row, column in np.ndindex(distance.shape):
        value = section["distance"][row][column]
        color = "white" if distance[row, column] < 0.6 else INK
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9.5, color=color)
    figure.colorbar(drawn, ax=axes, label="relative distance")
    return figure


def _numbers(section: Diversity, head: Head) -> Iterator[Number]:
    axis, sizes, words = "pretraining tasks", section["pool_size"], _words(section)
    for where, agents in (("the pool", section["pool"]), ("fresh tasks", section["fresh"])):
        for name, agent in agents.items():
            seeds = len(head["train_seeds"]) if agent["kind"] == "model" else 1
            facts = "", "diversity", name, agent["kind"], f"{words.field} in {where}", axis
            band = agent[words.field]  # type: ignore[literal-required]
            yield from band_numbers(facts, sizes, band, seeds, head["num_tasks"])
    for prefix, row in zip(section["prefix"], section["distance"], strict=True):
        measure = f"relative distance after {prefix} {words.shown}"
        for size, value in zip(sizes, row, strict=True):
            facts = "", "diversity", "model", "model", measure, axis
            yield Number(*facts, size, value, None, None, len(head["train_seeds"]), None)


SECTION = Section("diversity", _check, _show, numbers=_numbers)
