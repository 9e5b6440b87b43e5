"""Curves with their bands, each named at its end together with its last value: no legend to be matched by colour."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from icrl.reports.charts import INK, Look, chart, log_x, look_of, shorten, widest
from icrl.reports.forms import AgentCurve, Band
from icrl.reports.numbers import short_number

SHOWN = 2.0  # a baseline up to this many times the worst of model and ideal is kept inside the chart
TEXT_INCHES = 0.175  # one line of text


class Line(NamedTuple):
    """One curve with its band over the x of the chart."""

    label: str
    band: Band
    look: Look
    is_reference: bool  # model and ideal decide the range of y


def agents_chart(
    title: str,
    agents: dict[str, AgentCurve],
    field: str,
    x: list[int],
    labels: tuple[str, str],
    log: bool = False,
    note: str = "",
) -> Any:
    """A figure with the curve ``field`` of every agent over ``x``.

    Args:
      labels: of the x axis and of the y axis.
      log: whether x is logarithmic.
      note: the end of the subtitle.
    """
    figure, axes = chart(title, bands(agents) + note, *labels)
    if log:
        log_x(axes, x)
    make_room(figure, draw_lines(axes, x, agent_lines(agents, field)))
    return figure


def agent_lines(agents: dict[str, AgentCurve], field: str) -> list[Line]:
    """One line an agent, looks by kind."""
    seen: dict[str, int] = {}
    lines = []
    for agent in agents.values():
        index = seen[agent["kind"]] = seen.get(agent["kind"], -1) + 1
        is_reference = agent["kind"] in ("model", "ideal")
        lines.append(Line(agent["label"], agent[field], look_of(agent["kind"], index), is_reference))  # type: ignore[literal-required]
    return lines


def bands(agents: dict[str, AgentCurve]) -> str:
    """Subtitle that says what the bands are; the model's when methods differ, because it is the one in question."""
    first = next((agent for agent in agents.values() if agent["kind"] == "model"), next(iter(agents.values())))
    return f"bands: {first['interval']}"


def draw_lines(axes: Any, x: list[int], lines: list[Line]) -> list[Any]:
    """Draw curves, bands and end labels over the same x, with y cut where it stops being interesting.

    Returns the label texts.
    """
    for line in lines:
        look = line.look
        if len(x) == 1:
            axes.plot(x, line.band["mean"], "o", color=look.color, zorder=look.order)
        axes.plot(
            x, line.band["mean"], color=look.color, linewidth=look.width, linestyle=look.dashes, zorder=look.order,
            solid_capstyle="butt",
        )  # fmt: skip
        axes.fill_between(
            x, line.band["low"], line.band["high"], color=look.color, linewidth=0, zorder=look.order - 1,
            alpha=0.2 if line.is_reference else 0.11,
        )  # fmt: skip
    if len(x) > 1:
        axes.set_xlim(min(x), max(x))
    is_log = axes.get_yscale() == "log"
    low, high = _log_range(lines) if is_log else _y_range(lines)
    axes.set_ylim(low, high)
    return _label_ends(axes, lines, low, high, np.log if is_log else np.asarray)


def _y_range(lines: list[Line]) -> tuple[float, float]:
    """Range of y that shows model, ideal and every line up to ``SHOWN`` times as high; worse ones leave the chart."""
    height = [max(line.band["mean"]) for line in lines]
    reference = max((top for top, line in zip(height, lines, strict=True) if line.is_reference), default=max(height))
    inside = [line for top, line in zip(height, lines, strict=True) if reference <= 0 or top <= SHOWN * reference]
    high = max(max(line.band["high"]) for line in inside)
    low = min(min(line.band["low"]) for line in inside)
    low = 0.0 if low >= 0 else low - 0.06 * (high - low)
    return low, (low + 1.06 * (high - low)) if high > low else low + 1.0


def _log_range(lines: list[Line]) -> tuple[float, float]:
    """Range of a logarithmic y: all lines at their ends, and at most four decades."""
    high = 1.3 * max(line.band["high"][-1] for line in lines)
    seen = [value for line in lines for value in line.band["mean"] if value > 0]
    return max(min(seen) / 1.3, 1e-4 * high), high


def _label_ends(axes: Any, lines: list[Line], low: float, high: float, scale: Callable[..., Any]) -> list[Any]:
    """Name every line at its end with its last value; labels are pushed apart and tied to their line."""
    final = np.asarray([line.band["mean"][-1] for line in lines])
    ends = (scale(np.clip(final, low, high)) - scale(low)) / (scale(high) - scale(low))  # in fractions of the axes
    gap = TEXT_INCHES / (axes.get_position().height * axes.figure.get_figheight())
    # equal ends keep the order of their values, so that those above the chart are sorted as well
    order = np.lexsort((final, ends))
    places = np.empty(len(lines))
    places[order] = spread(ends[order], gap)
    texts = []
    for line, value, end, place in zip(lines, final, ends, places, strict=True):
        arrow = "↑ " if value > high else ""
        axes.plot(
            [1.0, 1.018, 1.04], [end, place, place], transform=axes.transAxes, clip_on=False,
            color=line.look.color, linewidth=min(line.look.width, 2.4), zorder=line.look.order,
        )  # fmt: skip
        texts.append(
            axes.text(
                1.05, place, f"{arrow}{shorten(line.label)}  {short_number(value)}", transform=axes.transAxes,
                va="center", fontsize=9.5, fontweight=line.look.weight, color=INK, parse_math=False,
            )
        )  # fmt: skip
    return texts


def make_room(figure: Any, texts: list[Any]) -> None:
    """Set the right margin to the widest label; labels begin 1.05 chart widths from the left edge of the chart."""
    left = figure.subplotpars.left
    figure.subplots_adjust(right=left + (0.985 - widest(figure, texts) - left) / 1.05)


def spread(ends: np.ndarray, gap: float) -> np.ndarray:
    """Move increasing positions ends [n] in [0, 1] to be at least ``gap`` apart with the least squared movement.

    With ``y_i = place_i - i gap`` this is isotonic regression, solved by pooling adjacent violators.
    """
    count = len(ends)
    gap = min(gap, 1.0 / max(count - 1, 1))
    blocks: list[tuple[float, int]] = []  # (mean, size)
    for target in ends - gap * np.arange(count):
        mean, size = float(target), 1
        while blocks and blocks[-1][0] > mean:
            above, number = blocks.pop()
            mean, size = (above * number + mean * size) / (number + size), number + size
        blocks.append((mean, size))
    free = np.concatenate([np.full(size, mean) for mean, size in blocks])
    return np.clip(free, 0.0, 1.0 - gap * (count - 1)) + gap * np.arange(count)
