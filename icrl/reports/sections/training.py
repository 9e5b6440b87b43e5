"""Loss by step of training."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, TypedDict

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import INK, Look, chart, look_of
from icrl.reports.forms import check_dictionary, check_keys
from icrl.reports.section import Figure, Head, Section


class Training(TypedDict):
    """What one training seed logged, M times."""

    step: list[int]  # [M]
    loss: list[float]  # [M]
    val_loss: list[float | None] | None  # [M], None where it was not measured


def _check(path: str, curves: dict[str, Any]) -> None:
    check_dictionary(path, curves)
    for seed, curve in curves.items():
        place = f"{path}.{seed}"
        check_keys(place, curve, Training)
        allowed = f"as many as steps, {len(curve['step'])}"
        for field in ("loss", "val_loss"):
            if curve[field] is not None or field == "loss":
                alike = len(curve[field]) == len(curve["step"])
                require(alike, f"{place}.{field}", f"{len(curve[field])} values", allowed)


def _show(curves: dict[str, Training], head: Head) -> Iterator[Figure]:
    del head
    each = "each training seed" if all(name.isdigit() for name in curves) else "each model (mean over its seeds)"
    caption = (
        f"Loss of {each} as logged (faint) and as a running mean (thick), and loss on held-out data (markers) where "
        "it was measured."
    )
    yield Figure("training", caption, partial(_draw, curves))


def _draw(curves: dict[str, Training]) -> Any:
    subtitle = "faint: as logged; thick: running mean"
    figure, axes = chart("Loss on the training tasks", subtitle, "training step", "loss (nats per prediction)")
    for index, (seed, curve) in enumerate(curves.items()):
        _draw_curve(axes, curve, look_of("model", index), f"seed {seed}" if seed.isdigit() else seed)
    if any(curve["val_loss"] for curve in curves.values()):
        axes.plot([], [], "o", color="white", markeredgecolor=INK, markersize=4.5, label="held-out data")
    axes.legend(frameon=False, fontsize=9.5, loc="upper right", ncols=math.ceil((len(curves) + 1) / 6))
    figure.subplots_adjust(right=0.97)
    return figure


def _draw_curve(axes: Any, curve: Training, look: Look, label: str) -> None:
    """Loss as logged (faint) and as a centred running mean, loss on held-out tasks as markers."""
    color = look.color
    step, loss = np.asarray(curve["step"]), np.asarray(curve["loss"])
    axes.plot(step, loss, color=color, linewidth=0.7, alpha=0.3)
    half = len(loss) // 100
    window = 2 * half + 1
    smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
    axes.plot(step[half : len(step) - half], smooth, color=color, linewidth=1.8, linestyle=look.dashes, label=label)
    held_out = [(x, y) for x, y in zip(step, curve["val_loss"] or [], strict=False) if y is not None]
    if held_out:
        every = max(1, len(held_out) // 25)
        axes.plot(
            *zip(*held_out, strict=True), "-o", color=color, linewidth=0.6, markerfacecolor=color, markeredgecolor=INK,
            markersize=4.5, markevery=every, zorder=5,
        )  # fmt: skip


SECTION = Section("training", _check, _show)
