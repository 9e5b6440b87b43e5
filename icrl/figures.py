"""Figures of a results document, drawn with matplotlib's objects on the Agg canvas: no window, no global state.

One look for all: the model is a thick coloured line, the ideal a black dashed one, baselines are thin and muted.
Every line is named at its end together with its last value, so no legend has to be matched by colour. The palette
is that of Okabe and Ito, and Tol's "muted" for the baselines: both are chosen to survive colour blindness.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from icrl.results import AgentCurve, Band, CrossEntropy, Diversity, Results, Training, World, short_number, tasks_behind

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


def draw_figures(results: Results) -> dict[str, Any]:
    """Return {file stem: matplotlib Figure} for the sections that ``results`` has."""
    import matplotlib

    makers: dict[str, Callable[[Results], Any]] = {
        "episode_returns": _episode_returns,
        "online_regret": _online_regret,
        "offline_suboptimality": _offline_suboptimality,
        "cross_entropy": _cross_entropy,
        "training": _training,
        "routing": _routing,
    }
    sections = {"episode_returns": "episodes", "online_regret": "online", "offline_suboptimality": "offline"}
    with matplotlib.rc_context(STYLE):
        drawn = {name: make(results) for name, make in makers.items() if results.get(sections.get(name, name))}
        if diversity := results.get("diversity"):
            drawn |= {f"{part}_regret": _pool_regret(diversity, part) for part in ("pool", "fresh")}
            drawn["relative_distance"] = _relative_distance(diversity)
        return drawn | {f"world_{name}": _world(name, world) for name, world in (results.get("worlds") or {}).items()}


def draw_learning_curves(returns: np.ndarray, optimal: np.ndarray) -> Any:
    """A figure of stored learning histories: returns [tasks, R, E], optimal returns [tasks].

    Faint: the mean curve of each task; thick: their mean; band: the middle 90 % of all histories.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        num_tasks, num_histories, num_episodes = returns.shape
        title = f"Learning histories of {num_tasks:,} tasks, {num_histories:,} each"
        subtitle = "faint: a task's mean; thick: their mean; band: 5 % to 95 % of all histories"
        figure, axes = _chart(title, subtitle, "episode of the history", "return of the episode")
        episode = np.arange(1, num_episodes + 1)
        low, high = np.quantile(returns, (0.05, 0.95), axis=(0, 1))
        axes.fill_between(episode, low, high, color=STRONG[1], alpha=0.12, linewidth=0)
        axes.plot(episode, returns.mean(1)[:200].T, color=STRONG[1], linewidth=0.6, alpha=0.3)
        axes.plot(episode, returns.mean((0, 1)), color=STRONG[1], linewidth=3.0)
        axes.axhline(optimal.mean(), color="#000000", linewidth=1.5, dashes=(4, 2))
        axes.annotate("mean optimum", (episode[-1], optimal.mean()), ha="right", va="bottom", fontsize=9.5, color=INK)
        axes.set_ylim(bottom=min(0.0, float(returns.min())))
        axes.margins(x=0.0)
        figure.subplots_adjust(right=0.97)
    return figure


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


def _online_regret(results: Results) -> Any:
    online = results["online"]
    assert online is not None
    title = f"Regret while learning in {results['num_tasks']:,} unseen tasks"
    bands = _bands(online["agents"])
    figure, axes = _chart(title, bands, "step in the task", "cumulative pseudo-regret (reward units)")
    _make_room(figure, _draw_lines(axes, online["steps"], _agent_lines(online["agents"], "regret")))
    return figure


def _world(name: str, world: World) -> Any:
    """Regret against time, both on logarithmic axes; agents that lose nothing have no place there."""
    agents = {player: agent for player, agent in world["agents"].items() if agent["regret"]["mean"][-1] > 0}
    lines = _agent_lines(agents, "regret")
    if world["lower_bound"]:
        bound = world["lower_bound"]
        look = Look(INK, 1.6, (0, (1, 1)), 7, "bold")
        lines.append(Line("Lai-Robbins", {"mean": bound, "low": bound, "high": bound}, look, False))
    title = f"Regret while learning in {world['num_tasks']:,} tasks of {name}"
    figure, axes = _chart(title, _bands(agents), "step in the task", "cumulative pseudo-regret (reward units)")
    _log_x(axes, world["steps"])
    axes.set_yscale("log", nonpositive="mask")
    _make_room(figure, _draw_lines(axes, world["steps"], lines))
    return figure


def _pool_regret(section: Diversity, part: Literal["pool", "fresh"]) -> Any:
    """Regret after all steps against the number of pretraining tasks."""
    where = {"pool": "tasks of the pretraining pool", "fresh": "tasks that were in no pool"}[part]
    agents = section[part]
    figure, axes = _chart(f"Regret in {where}", _bands(agents), "tasks in the pretraining pool", "final pseudo-regret")
    _log_x(axes, section["pool_size"])
    _make_room(figure, _draw_lines(axes, section["pool_size"], _agent_lines(agents, "regret")))
    return figure


def _relative_distance(section: Diversity) -> Any:
    """A heat map: whose choices the model's are like, by number of pretraining tasks and prefix."""
    subtitle = "0: as the posterior of the task distribution; 1: as the posterior over the pool alone"
    figure, axes = _chart("Does the model generalise or memorise?", subtitle, "tasks in the pretraining pool", "")
    axes.grid(False)
    distance = np.clip(section["distance"], 0.0, 1.0)
    drawn = axes.imshow(distance, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto", origin="lower")
    axes.set_xticks(range(len(section["pool_size"])), [f"{size:,}" for size in section["pool_size"]])
    axes.set_yticks(range(len(section["prefix"])), [f"{prefix:,}" for prefix in section["prefix"]])
    axes.set_ylabel("transitions in the prefix")
    for row, column in np.ndindex(distance.shape):
        value = section["distance"][row][column]
        color = "white" if distance[row, column] < 0.6 else INK
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9.5, color=color)
    figure.colorbar(drawn, ax=axes, label="relative distance")
    return figure


def _episode_returns(results: Results) -> Any:
    episodes = results["episodes"]
    assert episodes is not None
    title = f"Return of each episode while learning in {results['num_tasks']:,} unseen tasks"
    figure, axes = _chart(title, f"{_bands(episodes['agents'])}; not smoothed", "episode in the task", "return")
    _make_room(figure, _draw_lines(axes, episodes["episode"], _agent_lines(episodes["agents"], "returns")))
    return figure


def _offline_suboptimality(results: Results) -> Any:
    offline = results["offline"]
    assert offline is not None
    title = f"Greedy choice after a recorded prefix, {tasks_behind(results, offline):,} unseen tasks"
    bands = _bands(offline["agents"])
    figure, axes = _chart(title, bands, "transitions in the prefix", "suboptimality (reward units per step)")
    _log_x(axes, offline["prefix"])
    _make_room(figure, _draw_lines(axes, offline["prefix"], _agent_lines(offline["agents"], "suboptimality")))
    return figure


def _cross_entropy(results: Results) -> Any:
    section = results["cross_entropy"]
    assert section is not None
    title = f"Cross-entropy of the optimal action, {tasks_behind(results, section):,} unseen tasks"
    bands = "bands: 95 % intervals" + ("; the gap is paired on the same tasks" if section["gap"] else "")
    panels = 2 if section["gap"] else 1
    figure, axes = _chart(title, bands, "transitions in the prefix", "cross-entropy (nats)", panels)
    labels = []
    for panel, lines in zip(np.atleast_1d(axes), _entropy_lines(section), strict=True):
        _log_x(panel, section["prefix"])
        labels += _draw_lines(panel, section["prefix"], lines)
    _make_room(figure, labels)
    if section["gap"]:
        axes[1].set_ylabel("gap (nats)")
        axes[1].axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    return figure


def _training(results: Results) -> Any:
    curves = results["training"]
    assert curves is not None
    subtitle = "faint: as logged; thick: running mean"
    figure, axes = _chart("Loss on the training tasks", subtitle, "training step", "loss (nats per prediction)")
    for index, (seed, curve) in enumerate(curves.items()):
        _draw_training(axes, curve, (*STRONG, *MUTED)[index % 13], f"seed {seed}" if seed.isdigit() else seed)
    if any(curve["val_loss"] for curve in curves.values()):
        axes.plot([], [], "o", color="white", markeredgecolor=INK, markersize=4.5, label="held-out tasks")
    axes.legend(frameon=False, fontsize=9.5, loc="upper right", ncols=math.ceil((len(curves) + 1) / 6))
    figure.subplots_adjust(right=0.97)
    return figure


def _routing(results: Results) -> Any:
    """A picture of each branch: experts from left to right, who they serve from top to bottom."""
    branches = results["routing"]
    assert branches is not None
    subtitle = "mean gate of each expert by kind of token, and by sequence below the line; the darker the more"
    figure = _canvas("Which expert serves whom", subtitle)
    figure.subplots_adjust(left=0.12, right=0.985, bottom=0.1, top=0.84, wspace=0.35)
    for axes, branch in zip(figure.subplots(1, len(branches), squeeze=False)[0], branches, strict=True):
        share = np.asarray(branch["share"])
        axes.imshow(share, cmap="Blues", vmin=0.0, vmax=max(float(share.max()), 1e-9), aspect="auto")
        axes.set_title(branch["branch"], fontsize=10, color=INK, parse_math=False)
        axes.set_xticks(range(share.shape[1]), range(share.shape[1]), fontsize=8)
        axes.set_yticks(range(len(share)), [_shorten(name, 14) for name in branch["groups"]], fontsize=8)
        axes.set_xlabel("expert", fontsize=9)
        axes.axhline(sum(not name.startswith("sequence") for name in branch["groups"]) - 0.5, color=INK, linewidth=1.5)
    return figure


def _draw_training(axes: Any, curve: Training, color: str, label: str) -> None:
    """Loss as logged (faint) and as a centred running mean, loss on held-out tasks as markers."""
    step, loss = np.asarray(curve["step"]), np.asarray(curve["loss"])
    axes.plot(step, loss, color=color, linewidth=0.7, alpha=0.3)
    half = len(loss) // 100
    window = 2 * half + 1
    smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
    axes.plot(step[half : len(step) - half], smooth, color=color, linewidth=1.8, label=label)
    held_out = [(x, y) for x, y in zip(step, curve["val_loss"] or [], strict=False) if y is not None]
    if held_out:
        every = max(1, len(held_out) // 25)
        axes.plot(
            *zip(*held_out, strict=True), "-o", color=INK, linewidth=0.8, markerfacecolor=color, markeredgecolor=INK,
            markersize=4.5, markevery=every, zorder=5,
        )  # fmt: skip


def _bands(agents: dict[str, AgentCurve]) -> str:
    """Subtitle that says what the bands are; the model's when methods differ, because it is the one in question."""
    first = next((agent for agent in agents.values() if agent["kind"] == "model"), next(iter(agents.values())))
    return f"bands: {first['interval']}"


def _entropy_lines(section: CrossEntropy) -> list[list[Line]]:
    """Lines of the upper panel, and of the lower one if there is a gap."""
    model = _look("model", 0)
    upper = [Line("model", section["model"], model, True)]
    if section["ideal"]:
        upper.append(Line("exact posterior", section["ideal"], _look("ideal", 0), True))
    return [upper, [Line("model - exact", section["gap"], model, True)]] if section["gap"] else [upper]


def _agent_lines(agents: dict[str, AgentCurve], field: str) -> list[Line]:
    seen: dict[str, int] = {}
    lines = []
    for agent in agents.values():
        index = seen[agent["kind"]] = seen.get(agent["kind"], -1) + 1
        is_reference = agent["kind"] in ("model", "ideal")
        lines.append(Line(agent["label"], agent[field], _look(agent["kind"], index), is_reference))  # type: ignore[literal-required]
    return lines


def _look(kind: str, index: int) -> Look:
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


def _canvas(title: str, subtitle: str) -> Any:
    """An empty figure under its title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI)
    FigureCanvasAgg(figure)
    figure.text(0.02, 0.975, title, va="top", fontsize=13, fontweight="bold", color=INK, parse_math=False)
    figure.text(0.02, 0.922, _shorten(subtitle, 110), va="top", fontsize=9, color=QUIET, parse_math=False)
    return figure


def _chart(title: str, subtitle: str, x_label: str, y_label: str, panels: int = 1) -> tuple[Any, Any]:
    """A figure with one chart, or two that share their x."""
    figure = _canvas(title, subtitle)
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


def _log_x(axes: Any, prefix: list[int]) -> None:
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


def _draw_lines(axes: Any, x: list[int], lines: list[Line]) -> list[Any]:
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
                1.05, place, f"{arrow}{_shorten(line.label)}  {short_number(value)}", transform=axes.transAxes,
                va="center", fontsize=9.5, fontweight=line.look.weight, color=INK, parse_math=False,
            )
        )  # fmt: skip
    return texts


def _make_room(figure: Any, texts: list[Any]) -> None:
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


def _shorten(label: str, width: int = 30) -> str:
    label = " ".join(label.split())
    return label if len(label) <= width else label[: width - 1] + "…"
