"""Models pretrained on more and more tasks: whether they memorise their pool or generalise."""

from collections.abc import Iterator
from functools import partial
from typing import Any, TypedDict

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import INK, chart
from icrl.reports.forms import AgentCurve, check_curves, check_keys
from icrl.reports.lines import agents_chart
from icrl.reports.numbers import short_number
from icrl.reports.section import Figure, Head, Number, Row, Section, Table, band_numbers


class Diversity(TypedDict):
    """Models pretrained on pools of D tasks each, against the posteriors that memorise the pool and that do not."""

    pool_size: list[int]  # [D] increasing
    pool: dict[str, AgentCurve]  # with regret [D] after all steps, in tasks of the pool
    fresh: dict[str, AgentCurve]  # the same in tasks that no model has met
    prefix: list[int]  # [P] transitions shown, increasing
    distance: list[list[float]]  # [P][D] 0: chooses as the generalising posterior, 1: as the memorising one


def _check(path: str, section: Any) -> None:
    check_keys(path, section, Diversity)
    num_pools = len(section["pool_size"])
    for part in ("pool", "fresh"):
        check_curves(f"{path}.{part}", section[part], "regret", num_pools)
    sizes = [len(section["prefix"]), *(len(row) for row in section["distance"])]
    expected = [len(section["distance"]), *[num_pools] * len(section["prefix"])]
    require(sizes == expected, f"{path}.distance", sizes, f"rows as many as prefixes, of one value a pool: {expected}")


def _show(section: Diversity, head: Head) -> Iterator[Figure | Table]:
    sizes, axis_title = section["pool_size"], "tasks in the pretraining pool"
    caption = (
        "Pseudo-regret after all steps of models pretrained on so many tasks, beside posterior sampling over that very "
        "pool and, dashed black, over the whole distribution. Bands: 95 % intervals."
    )
    rows = []
    for name, agents, place, where in (
        ("pool_regret", section["pool"], "in the pool", "tasks of the pretraining pool"),
        ("fresh_regret", section["fresh"], "fresh", "tasks that were in no pool"),
    ):
        labels = axis_title, "final pseudo-regret"
        draw = partial(agents_chart, f"Regret in {where}", agents, "regret", sizes, labels, log=True)
        yield Figure(name, caption, draw)
        for agent in agents.values():
            cells = [short_number(value) for value in agent["regret"]["mean"]]
            rows.append(Row(agent["kind"], [f"{agent['label']}, {place}", *cells]))
    caption = (
        "Whose choice probabilities the model's are like on recorded prefixes in fresh tasks: 0 the posterior over the "
        "task distribution, 1 the posterior over the pool. Symmetrised Kullback-Leibler divergences, averaged."
    )
    yield Figure("relative_distance", caption, partial(_draw_distance, section, axis_title))
    title = f"Regret after {head['num_steps']:,} steps by diversity of the pretraining"
    yield Table(title, ["pretraining tasks", *(f"{size:,}" for size in sizes)], rows)


def _draw_distance(section: Diversity, x_label: str) -> Any:
    """A heat map: whose choices the model's are like, by number of pretraining tasks and prefix."""
    subtitle = "0: as the posterior of the task distribution; 1: as the posterior over the pool alone"
    y_label = "transitions in the prefix"
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
    axis, sizes = "pretraining tasks", section["pool_size"]
    for where, agents in (("the pool", section["pool"]), ("fresh tasks", section["fresh"])):
        for name, agent in agents.items():
            seeds = len(head["train_seeds"]) if agent["kind"] == "model" else 1
            facts = "", "diversity", name, agent["kind"], f"regret in {where}", axis
            yield from band_numbers(facts, sizes, agent["regret"], seeds, head["num_tasks"])
    for prefix, row in zip(section["prefix"], section["distance"], strict=True):
        measure = f"relative distance after {prefix} transitions"
        for size, value in zip(sizes, row, strict=True):
            facts = "", "diversity", "model", "model", measure, axis
            yield Number(*facts, size, value, None, None, len(head["train_seeds"]), None)


SECTION = Section("diversity", _check, _show, numbers=_numbers)
