"""The one look of all charts, drawn with matplotlib's objects on the Agg canvas: no window, no global state.

The model is a thick coloured line, the ideal a black dashed one, baselines are thin and muted. The palette is that of
Okabe and Ito, and Tol's "muted" for the baselines: both are chosen to survive colour blindness.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

SIZE_INCHES, DPI = (8.0, 4.8), 160  # 1280 x 768 pixels
EDGE = 6.0  # pixels that stay free at the left
STRONG = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
MUTED = ("#332288", "#44AA99", "#AA4499", "#999933", "#88CCEE", "#882255", "#CC6677", "#117733", "#DDCC77")
DASHES: tuple[Any, ...] = ("solid", (0, (6, 1.5, 1.2, 1.5)), (0, (1.2, 1.2)))
IDEAL_DASHES: tuple[Any, ...] = ((0, (4, 2)), (0, (9, 2)), (0, (1.5, 1.5)))
INK, QUIET = "#1a1a1a", "#666666"
STYLE = {"font.family": "DejaVu Sans", "font.size": 11.0, "axes.linewidth": 0.8, "path.simplify": True}
OUTSIDE = ("MPLBACKEND", "MATPLOTLIBRC")  # variables of a user's or a notebook's matplotlib


class Look(NamedTuple):
    """How one line is drawn."""

    color: str
    width: float
    dashes: Any
    order: int
    weight: str  # of the label's text


@contextlib.contextmanager
def our_style() -> Iterator[None]:
    """Draw as matplotlib ships plus ``STYLE``: no backend, style or configuration file from outside has a say."""
    held = {name: os.environ.pop(name) for name in OUTSIDE if name in os.environ}
    try:
        import matplotlib
    finally:
        os.environ.update(held)
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def to_png(*figures: Any) -> bytes:
    """Render figures of one width, each below the one before; a chart has 1280 x 768 pixels."""
    buffer = io.BytesIO()
    with our_style():
        from matplotlib.image import imsave

        imsave(buffer, np.concatenate([to_pixels(figure) for figure in figures]), format="png", dpi=DPI)
    return buffer.getvalue()


def to_pixels(figure: Any) -> np.ndarray:
    """Render a figure as [height, width, 3] uint8, a chart as [768, 1280, 3]."""
    with _any_script():
        figure.canvas.draw()
        if (hidden := _hidden_on_the_left(figure)) > 0:
            figure.subplots_adjust(left=figure.subplotpars.left + hidden)
            figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _hidden_on_the_left(figure: Any) -> float:
    """How far the name of a y axis, pushed out by wide numbers, is off the figure, as a share of its width."""
    renderer = figure.canvas.get_renderer()
    edges = [axes.yaxis.label.get_window_extent(renderer).x0 for axes in figure.axes if axes.get_ylabel()]
    return float(max(0.0, EDGE - min(edges, default=EDGE)) / figure.bbox.width)


@contextlib.contextmanager
def _any_script() -> Iterator[None]:
    """A label in a script that the font lacks is drawn as boxes, without a warning for each character."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def widest(figure: Any, texts: list[Any]) -> float:
    """Width of the widest of some texts as a share of the figure's."""
    with _any_script():
        renderer = figure.canvas.get_renderer()
        return max(text.get_window_extent(renderer).width for text in texts) / figure.bbox.width


def look_of(kind: str, index: int) -> Look:
    """The look of the ``index``-th agent of its kind."""
    if kind == "model":
        if index < len(STRONG):
            return Look(STRONG[index], 3.2, "solid", 6, "bold")
        dashes = DASHES[(index + index // len(MUTED)) % len(DASHES)]  # nine colours, then the same in other dashes
        return Look(MUTED[index % len(MUTED)], 2.2, dashes, 6, "bold")
    if kind == "ideal":
        return Look("#000000", 1.7, IDEAL_DASHES[index % len(IDEAL_DASHES)], 8, "bold")
    if kind == "oracle":
        return Look(QUIET, 1.2, (0, (1, 1.6)), 3, "normal")
    return Look(MUTED[index % len(MUTED)], 1.3, DASHES[index % len(DASHES)], 4, "normal")


def canvas(title: str, subtitle: str, height: float = SIZE_INCHES[1]) -> Any:
    """An empty figure under its title, ``height`` inches tall."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE_INCHES[0], height), dpi=DPI)
    FigureCanvasAgg(figure)
    large: dict[str, Any] = {"va": "top", "fontsize": 13, "fontweight": "bold", "color": INK, "parse_math": False}
    head = figure.text(0.02, 1 - 0.12 / height, title, **large)
    for size in np.arange(12.5, 6.0, -0.5):  # letters keep to whole pixels: not in one go
        if widest(figure, [head]) > 0.97:
            head.set_fontsize(size)
    small: dict[str, Any] = {"va": "top", "fontsize": 9, "color": QUIET, "parse_math": False}
    figure.text(0.02, 1 - 0.375 / height, shorten(subtitle, 110), **small)
    return figure


def chart(
    title: str, subtitle: str, x_label: str, y_label: str, panels: int = 1, height: float = SIZE_INCHES[1]
) -> tuple[Any, Any]:
    """A figure with one chart, or two that share their x, which counts something."""
    from matplotlib.ticker import MaxNLocator

    figure = canvas(title, subtitle, height)
    axes = figure.subplots(panels, 1, sharex=True, height_ratios=[2, 1][:panels])
    figure.subplots_adjust(left=0.095, bottom=0.6 / height, top=1 - 0.6 / height, hspace=0.12)
    for panel in np.atleast_1d(axes):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e4e4e4", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.tick_params(colors=INK, length=3)
        panel.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
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


def log_y(axes: Any) -> None:
    """Logarithmic y with plain numbers; values of 0 are not shown."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def shorten(label: str, width: int = 30) -> str:
    """``label`` on one line of at most ``width`` characters."""
    label = " ".join(label.split())
    return label if len(label) <= width else label[: width - 1] + "…"
