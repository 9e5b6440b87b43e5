"""Figures of a leaderboard: one of all standings, one of each world."""

from typing import Any

import numpy as np

from icrl.reports.charts import INK, SIZE_INCHES, Look, canvas, chart, log_x, log_y, shorten, widest
from icrl.reports.lines import TEXT_INCHES, Line, agent_lines, bands, draw_lines, make_room
from icrl.reports.schema import Results, World, leaderboard, world_title

LEAST, MOST = 0.01, 2.0  # shares between which colours differ


def draw_worlds(results: Results) -> dict[str, Any]:
    """{file stem: matplotlib Figure}."""
    worlds = results.get("worlds") or {}
    drawn = {"standings": _standings(results)} if len(worlds) > 1 else {}
    return drawn | {f"world_{name}": _world(name, world) for name, world in worlds.items()}


def _standings(results: Results) -> Any:
    """Agents from top to bottom, best mean first, worlds from left to right; blank where an agent does not play."""
    worlds, rows = leaderboard(results)
    rows = [row for row in rows if row[0] != "oracle"]
    share = np.array([row for _, _, row in rows], float)  # None becomes NaN
    subtitle = "regret as a share of uniform play's, the darker the less; best mean first, oracles left out"
    height = 2.0 + 0.9 * TEXT_INCHES * len(rows)
    figure = canvas("Who does well where", subtitle, height)
    axes = figure.subplots()
    drawn = np.log10(np.clip(share, LEAST, MOST))
    axes.imshow(drawn, cmap="cividis", vmin=np.log10(LEAST), vmax=np.log10(MOST), aspect="auto")
    names = [world_title(name) for name in worlds]
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(worlds)), names, rotation=50, ha="left", rotation_mode="anchor", fontsize=6.5)
    axes.set_yticks(range(len(rows)), [shorten(label, 34) for _, label, _ in rows], fontsize=7)
    for text, (kind, _, _) in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if kind == "model" else "normal")
    for row, column in np.argwhere(np.isfinite(share)):
        color = "white" if drawn[row, column] < -0.8 else INK
        value = f"{share[row, column]:.2f}".removeprefix("0")
        axes.text(column, row, value, ha="center", va="center", fontsize=5.5, color=color)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    left = widest(figure, axes.get_yticklabels()) + 0.02
    figure.subplots_adjust(left=left, right=0.93, bottom=0.1 / height, top=1 - 1.75 / height)
    return figure


def _world(name: str, world: World) -> Any:
    """Regret against time, both on logarithmic axes; agents that lose nothing have no place there."""
    agents = {player: agent for player, agent in world["agents"].items() if agent["regret"]["mean"][-1] > 0}
    lines = agent_lines(agents, "regret")
    if world["lower_bound"]:
        bound = world["lower_bound"]
        look = Look(INK, 1.6, (0, (1, 1)), 7, "bold")
        lines.append(Line("Lai-Robbins", {"mean": bound, "low": bound, "high": bound}, look, False))
    title = f"Regret while learning in {world['num_tasks']:,} tasks of {name}"
    height = max(SIZE_INCHES[1], 1.2 + TEXT_INCHES * len(lines))  # room for all names
    labels = "step in the task", "cumulative pseudo-regret (reward units)"
    figure, axes = chart(title, bands(agents), *labels, height=height)
    log_x(axes, world["steps"])
    log_y(axes)
    make_room(figure, draw_lines(axes, world["steps"], lines))
    return figure
