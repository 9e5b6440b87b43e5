"""Between memorising and generalising: how far models are from the two exact predictors, by pool, model and step."""

from collections.abc import Iterator
from functools import partial
from typing import Any, TypedDict

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import INK, MUTED, chart, log_x, look_of
from icrl.reports.forms import Band, check_band, check_dictionary, check_keys, check_kinds
from icrl.reports.lines import Line, draw_lines, make_room
from icrl.reports.numbers import short_number
from icrl.reports.section import Figure, Head, Number, Row, Section, Table, band_numbers

AXIS = "tasks in the pretraining pool"
TICKS = 10  # pools that the axis names one by one


class Strategy(TypedDict):
    """One model, trained on each of the pools."""

    parameters: int
    state_bytes: int  # what it remembers of one sequence
    to_memory: Band  # [D] distance to the predictor that memorises the pool, in fresh tasks
    to_general: Band  # [D] to the one that knows the prior
    relative: list[float]  # [D] 0: predicts as the generalising one, 1: as the memorising one
    step: list[int]  # [S] of training, at which the distances were logged, on other fresh tasks
    by_step: list[list[float]]  # [S][D] the relative distance there


class Strategies(TypedDict):
    """All models, and how far apart the two predictors are."""

    distance_in_words: str
    pool_size: list[int]  # [D] increasing
    apart: Band  # [D] distance of the two predictors, in the same tasks
    models: dict[str, Strategy]


def _check(path: str, section: Any) -> None:
    check_keys(path, section, Strategies)
    check_dictionary(f"{path}.models", section["models"])
    require(len(section["models"]) >= 1, f"{path}.models", section["models"], "at least one model")
    for name, model in section["models"].items():
        check_keys(f"{path}.models.{name}", model, Strategy)
    check_kinds(path, section, Strategies)
    num_pools = len(section["pool_size"])
    check_band(f"{path}.apart", section["apart"], num_pools)
    for name, model in section["models"].items():
        place = f"{path}.models.{name}"
        for field in ("to_memory", "to_general"):
            check_band(f"{place}.{field}", model[field], num_pools)
        found = [len(model["by_step"]), *map(len, (model["relative"], *model["by_step"]))]
        expected = [len(model["step"]), *[num_pools] * (1 + len(model["by_step"]))]
        require(found == expected, f"{place}.by_step", found, f"one value a pool at every step: {expected}")


def _show(section: Strategies, head: Head) -> Iterator[Figure | Table]:
    unit, models = section["distance_in_words"], section["models"]
    for field, whom in (("to_general", "generalises"), ("to_memory", "memorises the pool")):
        caption = (
            f"Distance ({unit}) of the models' predictions from those of the exact predictor that {whom}, in "
            f"{head['num_tasks']:,} fresh tasks; dashed black, how far apart the two exact predictors are."
        )
        yield Figure(f"distance_{field}", caption, partial(_draw_distances, section, field, whom))
    for number, (name, model) in enumerate(models.items()):
        if len(model["step"]) > 1:
            caption = (
                f"Relative distance of {name} as it is trained, one line a pool, on fresh tasks: 1 predicts as the "
                "posterior over the pool, 0 as the one over the whole distribution."
            )
            stem = "strategy_by_step" if number == 0 else f"strategy_by_step_{number}"
            yield Figure(stem, caption, partial(_draw_steps, section["pool_size"], name, model))
    columns = ["model", "parameters", "bytes", *(f"{size:,}" for size in section["pool_size"])]
    rows = [
        Row("model", [name, f"{m['parameters']:,}", f"{m['state_bytes']:,}", *map(short_number, m["relative"])])
        for name, m in models.items()
    ]
    note = "Bytes: what a model remembers of one sequence. Where both predictors agree, the distance says little."
    yield Table("Relative distance in fresh tasks by tasks of the pool (1 memorises)", columns, rows, note)


def _draw_distances(section: Strategies, field: str, whom: str) -> Any:
    sizes, unit = section["pool_size"], section["distance_in_words"]
    subtitle = "bands: 95 % intervals"
    figure, axes = chart(f"Distance to the predictor that {whom}", subtitle, AXIS, unit)
    lines = [
        Line(name, model[field], look_of("model", number), is_reference=True)  # type: ignore[literal-required]
        for number, (name, model) in enumerate(section["models"].items())
    ]
    lines.append(Line("the two predictors", section["apart"], look_of("ideal", 0), is_reference=True))
    log_x(axes, sizes)
    if len(sizes) <= TICKS:
        axes.set_xticks(sizes)
    make_room(figure, draw_lines(axes, sizes, lines))
    return figure


def _draw_steps(sizes: list[int], name: str, model: Strategy) -> Any:
    """One line a pool."""
    subtitle = "relative distance: 1 as the posterior over the pool, 0 as that over the whole distribution"
    figure, axes = chart(f"What {name} predicts as it learns", subtitle, "training step", "relative distance")
    values = np.asarray(model["by_step"])
    for number, size in enumerate(sizes):
        color = MUTED[number % len(MUTED)]
        axes.plot(model["step"], values[:, number], color=color, linewidth=1.8, label=f"pool of {size:,}")
    for level in (0.0, 1.0):
        axes.axhline(level, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_ylim(min(-0.05, *values[-1] - 0.05), max(1.05, *values[-1] + 0.05))
    axes.legend(frameon=False, fontsize=9.5, loc="best")
    figure.subplots_adjust(right=0.97)
    return figure


def _numbers(section: Strategies, head: Head) -> Iterator[Number]:
    axis, sizes, seeds = "pretraining tasks", section["pool_size"], len(head["train_seeds"])
    facts = "", "strategies", "both predictors", "ideal", "distance apart", axis
    yield from band_numbers(facts, sizes, section["apart"], 1, head["num_tasks"])
    for name, model in section["models"].items():
        for field in ("to_memory", "to_general"):
            facts = "", "strategies", name, "model", f"distance {field}", axis
            yield from band_numbers(facts, sizes, model[field], seeds, head["num_tasks"])  # type: ignore[literal-required]
        for what in ("parameters", "state_bytes"):
            size = float(model[what])  # type: ignore[literal-required]
            yield Number("", "strategies", name, "model", what, "", None, size, None, None, None, None)
        for size, value in zip(sizes, model["relative"], strict=True):
            head_of = "", "strategies", name, "model", "relative distance", axis
            yield Number(*head_of, size, value, None, None, seeds, head["num_tasks"])
        for step, row in zip(model["step"], model["by_step"], strict=True):
            for size, value in zip(sizes, row, strict=True):
                measure = f"relative distance, {size} pretraining tasks"
                yield Number(
                    "", "strategies", name, "model", measure, "training step", step, value, None, None, seeds, None
                )


SECTION = Section("strategies", _check, _show, numbers=_numbers)
