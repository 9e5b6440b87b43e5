"""Which figures a results document gets, and what is in each; ``charts`` has their look."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from icrl.reports.charts import INK, STRONG, STYLE, Look, canvas, chart, log_x, look_of, shorten
from icrl.reports.lines import Line, agent_lines, bands, draw_lines, make_room
from icrl.reports.schema import CrossEntropy, Diversity, Results, Training, tasks_behind, tasks_in_words
from icrl.reports.world_figures import draw_worlds


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
        return draw_worlds(results) | drawn  # the standings are what a leaderboard is opened for


def draw_learning_curves(returns: np.ndarray, optimal: np.ndarray) -> Any:
    """A figure of stored learning histories: returns [tasks, R, E], optimal returns [tasks].

    Faint: the mean curve of each task; thick: their mean; band: the middle 90 % of all histories.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        num_tasks, num_histories, num_episodes = returns.shape
        title = f"Learning histories of {num_tasks:,} tasks, {num_histories:,} each"
        subtitle = "faint: a task's mean; thick: their mean; band: 5 % to 95 % of all histories"
        figure, axes = chart(title, subtitle, "episode of the history", "return of the episode")
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


def _online_regret(results: Results) -> Any:
    online = results["online"]
    assert online is not None
    title = f"Regret while learning in {tasks_in_words(results, results['num_tasks'])}"
    subtitle = bands(online["agents"])
    figure, axes = chart(title, subtitle, "step in the task", "cumulative pseudo-regret (reward units)")
    make_room(figure, draw_lines(axes, online["steps"], agent_lines(online["agents"], "regret")))
    return figure


def _pool_regret(section: Diversity, part: Literal["pool", "fresh"]) -> Any:
    """Regret after all steps against the number of pretraining tasks."""
    where = {"pool": "tasks of the pretraining pool", "fresh": "tasks that were in no pool"}[part]
    agents = section[part]
    figure, axes = chart(f"Regret in {where}", bands(agents), "tasks in the pretraining pool", "final pseudo-regret")
    log_x(axes, section["pool_size"])
    make_room(figure, draw_lines(axes, section["pool_size"], agent_lines(agents, "regret")))
    return figure


def _relative_distance(section: Diversity) -> Any:
    """A heat map: whose choices the model's are like, by number of pretraining tasks and prefix."""
    subtitle = "0: as the posterior of the task distribution; 1: as the posterior over the pool alone"
    figure, axes = chart("Does the model generalise or memorise?", subtitle, "tasks in the pretraining pool", "")
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
    title = f"Return of each episode while learning in {tasks_in_words(results, results['num_tasks'])}"
    figure, axes = chart(title, f"{bands(episodes['agents'])}; not smoothed", "episode in the task", "return")
    make_room(figure, draw_lines(axes, episodes["episode"], agent_lines(episodes["agents"], "returns")))
    return figure


def _offline_suboptimality(results: Results) -> Any:
    offline = results["offline"]
    assert offline is not None
    title = f"Greedy choice after a recorded prefix, {tasks_in_words(results, tasks_behind(results, offline))}"
    subtitle = bands(offline["agents"])
    figure, axes = chart(title, subtitle, "transitions in the prefix", "suboptimality (reward units per step)")
    log_x(axes, offline["prefix"])
    make_room(figure, draw_lines(axes, offline["prefix"], agent_lines(offline["agents"], "suboptimality")))
    return figure


def _cross_entropy(results: Results) -> Any:
    section = results["cross_entropy"]
    assert section is not None
    title = f"Cross-entropy of the optimal action, {tasks_in_words(results, tasks_behind(results, section))}"
    bands = "bands: 95 % intervals" + ("; the gap is paired on the same tasks" if section["gap"] else "")
    panels = 2 if section["gap"] else 1
    figure, axes = chart(title, bands, "transitions in the prefix", "cross-entropy (nats)", panels)
    labels = []
    for panel, lines in zip(np.atleast_1d(axes), _entropy_lines(section), strict=True):
        log_x(panel, section["prefix"])
        labels += draw_lines(panel, section["prefix"], lines)
    make_room(figure, labels)
    if section["gap"]:
        axes[1].set_ylabel("gap (nats)")
        axes[1].axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    return figure


def _training(results: Results) -> Any:
    curves = results["training"]
    assert curves is not None
    subtitle = "faint: as logged; thick: running mean"
    figure, axes = chart("Loss on the training tasks", subtitle, "training step", "loss (nats per prediction)")
    for index, (seed, curve) in enumerate(curves.items()):
        _draw_training(axes, curve, look_of("model", index), f"seed {seed}" if seed.isdigit() else seed)
    if any(curve["val_loss"] for curve in curves.values()):
        axes.plot([], [], "o", color="white", markeredgecolor=INK, markersize=4.5, label="held-out data")
    axes.legend(frameon=False, fontsize=9.5, loc="upper right", ncols=math.ceil((len(curves) + 1) / 6))
    figure.subplots_adjust(right=0.97)
    return figure


def _routing(results: Results) -> Any:
    """A picture of each branch: experts from left to right, who they serve from top to bottom."""
    branches = results["routing"]
    assert branches is not None
    subtitle = "mean gate of each expert by kind of token, and by sequence below the line; the darker the more"
    figure = canvas("Which expert serves whom", subtitle)
    figure.subplots_adjust(left=0.12, right=0.985, bottom=0.1, top=0.84, wspace=0.35)
    for axes, branch in zip(figure.subplots(1, len(branches), squeeze=False)[0], branches, strict=True):
        share = np.asarray(branch["share"])
        axes.imshow(share, cmap="Blues", vmin=0.0, vmax=max(float(share.max()), 1e-9), aspect="auto")
        axes.set_title(branch["branch"], fontsize=10, color=INK, parse_math=False)
        axes.set_xticks(range(share.shape[1]), range(share.shape[1]), fontsize=8)
        axes.set_yticks(range(len(share)), [shorten(name, 14) for name in branch["groups"]], fontsize=8)
        axes.set_xlabel("expert", fontsize=9)
        axes.axhline(sum(not name.startswith("sequence") for name in branch["groups"]) - 0.5, color=INK, linewidth=1.5)
    return figure


def _draw_training(axes: Any, curve: Training, look: Look, label: str) -> None:
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


def _entropy_lines(section: CrossEntropy) -> list[list[Line]]:
    """Lines of the upper panel, and of the lower one if there is a gap."""
    model = look_of("model", 0)
    upper = [Line("model", section["model"], model, True)]
    if section["ideal"]:
        upper.append(Line("exact posterior", section["ideal"], look_of("ideal", 0), True))
    return [upper, [Line("model - exact", section["gap"], model, True)]] if section["gap"] else [upper]
