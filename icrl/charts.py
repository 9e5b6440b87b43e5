"""The one look of all charts, drawn with matplotlib's objects on the Agg canvas: no window, no global state.

The model is a thick coloured line, the ideal a black dashed one, baselines are thin and muted. Every line is named at
its end together with its last value, so no legend has to be matched by colour. The palette is that of Okabe and Ito,
and Tol's "muted" for the baselines: both are chosen to survive colour blindness.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from icrl.formats import short_number
from icrl.results import Band

SIZE_INCHES, DPI = (8.0, 4.8), 160  # 1280 x 768 pixels
STRONG = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
MUTED = ("#332288", "#44AA99", "#AA4499", "#999933", "#88CCEE", "#882255", "#CC6677", "#117733", "#DDCC77")
DASHES: tuple[Any, ...] = ("solid", (0, (6, 1.5, 1.2, 1.5)), (0, (1.2, 1.2)))
INK, QUIET = "#1a1a1a", "#666666"
SHOWN = 2.0  # a baseline up to this many times the worst of model and ideal is kept inside the chart
STYLE = {"font.family": "DejaVu Sans", "font.size": 11.0, "axes.linewidth": 0.8, "path.simplify": True}


class Look(NamedTuple):
    """How one line is drawn."""

    color: str
    width: float
    dashes: Any
    order: int
    weight: str  # of the label's text


class Line(NamedTuple):
    """One curve with its band over the x of the chart."""

    label: str
    band: Band
    look: Look
    is_reference: bool  # model and ideal decide the range of y


def to_png(*figures: Any) -> bytes:
    """Render figures of one width, each below the one before; a chart has 1280 x 768 pixels."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, np.concatenate([to_pixels(figure) for figure in figures]), format="png", dpi=DPI)
    return buffer.getvalue()


def to_pixels(figure: Any) -> np.ndarray:
    """Render a figure as [height, width, 3] uint8, a chart as [768, 1280, 3]."""
    with _any_script():
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


@contextlib.contextmanager
def _any_script() -> Iterator[None]:
    """A label in a script that the font lacks is drawn as boxes, without a warning for each character."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def look_of(kind: str, index: int) -> Look:
    """The look of the ``index``-th agent of its kind."""
    if kind == "model":
        if index < len(STRONG):
            return Look(STRONG[index], 3.2, "solid", 6, "bold")
        return Look(MUTED[index % len(MUTED)], 2.2, DASHES[index % len(DASHES)], 6, "bold")
    if kind == "ideal":
        return Look("#000000", 1.7, (0, (4, 2)), 8, "bold")
    if kind == "oracle":
        return Look(QUIET, 1.2, (0, (1, 1.6)), 3, "normal")
    return Look(MUTED[index % len(MUTED)], 1.3, DASHES[index % len(DASHES)], 4, "normal")


def canvas(title: str, subtitle: str) -> Any:
    """An empty figure under its title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI)
    FigureCanvasAgg(figure)
    figure.text(0.02, 0.975, title, va="top", fontsize=13, fontweight="bold", color=INK, parse_math=False)
    figure.text(0.02, 0.922, shorten(subtitle, 110), va="top", fontsize=9, color=QUIET, parse_math=False)
    return figure


def chart(title: str, subtitle: str, x_label: str, y_label: str, panels: int = 1) -> tuple[Any, Any]:
    """A figure with one chart, or two that share their x."""
    figure = canvas(title, subtitle)
    axes = figure.subplots(panels, 1, sharex=True, height_ratios=[2, 1][:panels])
    figure.subplots_adjust(left=0.095, bottom=0.125, top=0.875, hspace=0.12)
    for panel in np.atleast_1d(axes):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e4e4e4", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.tick_params(colors=INK, length=3)
    np.atleast_1d(axes)[0].set_ylabel(y_label)
    np.atleast_1d(axes)[-1].set_xlabel(x_label)
    return figure, axes


def log_x(axes: Any, prefix: list[int]) -> None:
    """Logarithmic x with plain numbers; a prefix of 0 gets a linear piece below 1."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    if min(prefix) > 0:
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
    bases = (1, 2, 5) if max(prefix) <= 1000 * max(min(prefix), 1) else (1,)
    decades = [0, *(base * 10**power for power in range(10) for base in bases)]
    ticks = [tick for tick in decades if min(prefix) <= tick <= max(prefix)]
    axes.xaxis.set_major_locator(FixedLocator(ticks or prefix))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


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
    gap = 0.0365 / axes.get_position().height  # one line of text
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
    with _any_script():
        renderer = figure.canvas.get_renderer()
        widest = max(text.get_window_extent(renderer).width for text in texts) / figure.bbox.width
    left = figure.subplotpars.left
    figure.subplots_adjust(right=left + (0.985 - widest - left) / 1.05)


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


def shorten(label: str, width: int = 30) -> str:
    """``label`` on one line of at most ``width`` characters."""
    label = " ".join(label.split())
    return label if len(label) <= width else label[: width - 1] + "…"
