"""Loss by step of training, or the return of what learns by acting."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NotRequired, TypedDict

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import INK, Look, chart, look_of
from icrl.reports.forms import check_dictionary, check_keys
from icrl.reports.section import Figure, Head, Number, Section

LOSS = "loss (nats, or squared error)"


class Training(TypedDict):
    """What one training seed logged, M times."""

    step: list[int]  # [M]
    loss: list[float]  # [M]
    val_loss: list[float | None] | None  # [M], None where it was not measured
    trial_return: NotRequired[list[float] | None]  # [M] mean return of the trials since the last row; None: no trials


def _check(path: str, curves: dict[str, Any]) -> None:
    check_dictionary(path, curves)
    for seed, curve in curves.items():
        place = f"{path}.{seed}"
        check_keys(place, curve, Training)
        allowed = f"as many as steps, {len(curve['step'])}"
        for field in ("loss", "val_loss", "trial_return"):
            if curve.get(field) is not None or field == "loss":
                alike = len(curve[field]) == len(curve["step"])
                require(alike, f"{place}.{field}", f"{len(curve[field])} values", allowed)


def _show(curves: dict[str, Training], head: Head) -> Iterator[Figure]:
    del head
    each = "each training seed" if all(name.isdigit() for name in curves) else "each model (mean over its seeds)"
    acting = {name: curve for name, curve in curves.items() if curve.get("trial_return")}
    if acting:
        caption = f"Return of a trial of {each} while it learned, as logged (faint) and as a running mean (thick)."
        yield Figure("training_returns", caption, partial(_draw_returns, acting))
    told = {name: curve for name, curve in curves.items() if name not in acting}
    if told:
        caption = (
            f"Loss of {each} as logged (faint) and as a running mean (thick), and loss on held-out data (markers) "
            "where it was measured."
        )
        yield Figure("training", caption, partial(_draw, told))


def _draw_returns(curves: dict[str, Training]) -> Any:
    subtitle = "faint: as logged; thick: running mean"
    figure, axes = chart("Return in the training tasks", subtitle, "training step", "return of a trial")
    for index, (seed, curve) in enumerate(curves.items()):
        values = np.asarray(curve["trial_return"])
        _draw_smoothed(axes, np.asarray(curve["step"]), values, look_of("model", index), _label(seed))
    axes.legend(frameon=False, fontsize=9.5, loc="best", ncols=math.ceil(len(curves) / 6))
    figure.subplots_adjust(right=0.97)
    return figure


def _draw(curves: dict[str, Training]) -> Any:
    subtitle = "faint: as logged; thick: running mean"
    figure, axes = chart("Loss on the training tasks", subtitle, "training step", LOSS)
    for index, (seed, curve) in enumerate(curves.items()):
        _draw_curve(axes, curve, look_of("model", index), _label(seed))
    if any(curve["val_loss"] for curve in curves.values()):
        axes.plot([], [], "o", color="white", markeredgecolor=INK, markersize=4.5, label="held-out data")
    axes.legend(frameon=False, fontsize=9.5, loc="upper right", ncols=math.ceil((len(curves) + 1) / 6))
    figure.subplots_adjust(right=0.97)
    return figure


def _label(seed: str) -> str:
    return f"seed {seed}" if seed.isdigit() else seed


def _draw_smoothed(axes: Any, step: np.ndarray, values: np.ndarray, look: Look, label: str) -> None:
    """Values as logged (faint), and their centred running mean."""
    axes.plot(step, values, color=look.color, linewidth=0.7, alpha=0.3)
    half = len(values) // 100
    smooth = np.convolve(values, np.ones(2 * half + 1) / (2 * half + 1), mode="valid")
    at = step[half : len(step) - half]
    axes.plot(at, smooth, color=look.color, linewidth=1.8, linestyle=look.dashes, label=label)


def _draw_curve(axes: Any, curve: Training, look: Look, label: str) -> None:
    """Loss as logged (faint) and as a centred running mean, loss on held-out tasks as markers."""
    color, step = look.color, np.asarray(curve["step"])
    _draw_smoothed(axes, step, np.asarray(curve["loss"]), look, label)
    held_out = [(x, y) for x, y in zip(step, curve["val_loss"] or [], strict=False) if y is not None]
    if held_out:
        every = max(1, len(held_out) // 25)
        axes.plot(
            *zip(*held_out, strict=True), "-o", color=color, linewidth=0.6, markerfacecolor=color, markeredgecolor=INK,
            markersize=4.5, markevery=every, zorder=5,
        )  # fmt: skip


def _numbers(curves: dict[str, Training], head: Head) -> Iterator[Number]:
    """Of a model by its number, or of a variant, then means over its training seeds."""
    for name, curve in curves.items():
        seeds = 1 if name.isdigit() else len(head["train_seeds"])
        for measure in ("loss", "val_loss", "trial_return"):
            values: Any = curve.get(measure) or ()
            for step, value in zip(curve["step"], values, strict=False):
                if value is not None:
                    facts = "", "training", name, "model", measure, "training step"
                    yield Number(*facts, step, value, None, None, seeds, None)


SECTION = Section("training", _check, _show, numbers=_numbers)
