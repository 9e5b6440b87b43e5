"""Cross-entropy of the action to be predicted by prefix, beside the exact posterior's where it is known."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NotRequired, TypedDict

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import INK, chart, log_x, look_of
from icrl.reports.forms import Band, check_band, check_keys
from icrl.reports.lines import Line, draw_lines, make_room
from icrl.reports.section import Figure, Head, Number, Section, band_numbers, tasks_in_words


class CrossEntropy(TypedDict):
    """Cross-entropy of the action that a model is to predict given a prefix, in nats."""

    prefix: list[int]  # [P]
    model: Band  # [P]
    ideal: Band | None  # [P] of the exact posterior, the least that can be reached
    gap: Band | None  # [P] model - ideal, paired on the same tasks
    num_tasks: NotRequired[int]  # held-out tasks here, where it is not the document's num_tasks
    what: NotRequired[str]  # is predicted, if it is not the optimal action
    over: NotRequired[str]  # what the means are over, if not over held-out tasks


def _check(path: str, section: Any) -> None:
    check_keys(path, section, CrossEntropy)
    require(len(section["prefix"]) >= 1, f"{path}.prefix", section["prefix"], "at least one value")
    for field in ("model", "ideal", "gap"):
        if field == "model" or section[field] is not None:
            check_band(f"{path}.{field}", section[field], len(section["prefix"]))


def _show(section: CrossEntropy, head: Head) -> Iterator[Figure]:
    what = section.get("what", "the optimal action")
    over = section.get("over") or tasks_in_words(head, section, "held-out tasks")
    caption = (
        f"Cross-entropy of {what} after a prefix, in nats. The exact posterior (dashed black, where it is known) is "
        f"the least any model can be expected to reach; the gap is paired. Means over {over}. Bands: 95 % intervals."
    )
    title = f"Cross-entropy of {what}, {section.get('over') or tasks_in_words(head, section)}"
    yield Figure("cross_entropy", caption, partial(_draw, section, title))


def _draw(section: CrossEntropy, title: str) -> Any:
    """Model and exact posterior above, their gap below if there is one."""
    model = look_of("model", 0)
    panels = [[Line("model", section["model"], model, True)]]
    if section["ideal"]:
        panels[0].append(Line("exact posterior", section["ideal"], look_of("ideal", 0), True))
    if section["gap"]:
        panels.append([Line("model - exact", section["gap"], model, True)])
    bands = "bands: 95 % intervals" + ("; the gap is paired" if section["gap"] else "")
    figure, axes = chart(title, bands, "transitions in the prefix", "cross-entropy (nats)", len(panels))
    labels = []
    for panel, lines in zip(np.atleast_1d(axes), panels, strict=True):
        log_x(panel, section["prefix"])
        labels += draw_lines(panel, section["prefix"], lines)
    make_room(figure, labels)
    if section["gap"]:
        axes[1].set_ylabel("gap (nats)")
        axes[1].axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    return figure


def _numbers(section: CrossEntropy, head: Head) -> Iterator[Number]:
    tasks = section.get("num_tasks", head["num_tasks"])
    bands = {"model": section["model"], "ideal": section["ideal"], "gap": section["gap"]}
    for name, band in bands.items():
        if band is not None:
            seeds, kind = (1 if name == "ideal" else len(head["train_seeds"])), "" if name == "gap" else name
            facts = "", "cross_entropy", name, kind, "cross-entropy (nats)", "prefix"
            yield from band_numbers(facts, section["prefix"], band, seeds, tasks)


SECTION = Section("cross_entropy", _check, _show, numbers=_numbers)
