"""Agents in many environments, a leaderboard: the standings, and regret by step in each environment."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, TypedDict

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import INK, SIZE_INCHES, Look, canvas, chart, log_x, log_y, shorten, widest
from icrl.reports.forms import AgentCurve, Value, check_agents, check_dictionary, check_value, drawn, last
from icrl.reports.lines import TEXT_INCHES, Line, agent_lines, bands, draw_lines, make_room
from icrl.reports.numbers import format_ratio, format_value
from icrl.reports.section import Figure, Head, Number, Row, Section, Table, agents_table, curve_numbers

LEAST, MOST = 0.01, 2.0  # shares between which the colours of the standings differ
PANEL_WORLDS = 26  # columns of a panel of the standings, at most
NAMES_INCHES = 1.35  # over a panel, for the names of its worlds
TUNED = " (tuned)"  # behind an agent's name: with the settings that were chosen in each environment


class Standing(NamedTuple):
    """One agent in all environments."""

    kind: str
    label: str
    shares: list[float | None]  # regret by environment, as a share of uniform play's
    is_drawn: bool = True  # false for the defaults of an agent that was tuned: a row of the table alone


class World(TypedDict):
    """Agents learning in tasks of one family: one column of a leaderboard."""

    steps: list[int]  # [P] in 1..T, increasing
    agents: dict[str, AgentCurve]  # with regret [P]
    num_tasks: int  # held-out tasks here
    optimum: Value  # return of an episode of optimal play, exact in each task
    lower_bound: list[float] | None  # [P] of the regret, asymptotic; None where none is known
    skipped: dict[str, str]  # agents that do not fit, and why


def _check(path: str, worlds: dict[str, Any]) -> None:
    check_dictionary(path, worlds)
    for name, world in worlds.items():
        place = f"{path}.{name}"
        check_agents(place, world, World, "steps", "regret")
        check_value(f"{place}.optimum", world["optimum"])
        bound, length = world["lower_bound"], len(world["steps"])
        fits = bound is None or len(bound) == length
        require(fits, f"{place}.lower_bound", bound, f"{length} values, one per point")


def world_title(name: str) -> str:
    """The id of an environment in words: "ContextualLinearBandit-v0" is "Contextual Linear Bandit"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name.removesuffix("-v0"))


def leaderboard(worlds: dict[str, World]) -> list[Standing]:
    """Of each agent: kind, label, and regret in each world as a share of uniform play's; best mean first.

    The share is None where the agent does not play, or uniform play loses nothing. An agent that was tuned has two
    rows: its defaults, and what was chosen in each world.
    """
    looks: dict[str, tuple[str, str]] = {}
    shares: dict[str, dict[str, float]] = {}
    for name, world in worlds.items():
        finals = {player: agent["regret"]["mean"][-1] for player, agent in world["agents"].items()}
        for player, agent in world["agents"].items():
            origin = agent.get("tuned_from", "")
            if origin in ("", player):
                # the ideal of one world is a baseline in another, so it has neither its kind nor its label here
                looks[player] = ("baseline", player) if agent["kind"] == "ideal" else (agent["kind"], agent["label"])
            if origin:
                looks[origin + TUNED] = ("baseline", origin + TUNED)
            for row in {player, origin + TUNED} & looks.keys():
                share = shares.setdefault(row, {})
                if finals.get("uniform", 0.0) > 0:
                    share[name] = finals[player] / finals["uniform"]
    means = {row: sum(share.values()) / max(len(share), 1) for row, share in shares.items()}
    return [
        Standing(*looks[row], [shares[row].get(name) for name in worlds], row + TUNED not in looks)
        for row in sorted(means, key=lambda row: means[row])
    ]


def _show(worlds: dict[str, World], head: Head) -> Iterator[Table | Figure]:
    del head
    names, standings = [world_title(name) for name in worlds], leaderboard(worlds)
    rows = [Row(row.kind, [row.label, *map(format_ratio, row.shares)]) for row in standings]
    yield Table("Regret as a share of uniform play's, best mean first", ["agent", *names], rows)
    if len(worlds) > 1 and any(row.kind != "oracle" for row in standings):
        caption = (
            "Regret after all steps as a share of what uniform play loses in the same tasks: 0 is the optimum, 1 no "
            "better than chance. Colours are logarithmic, from 0.01 to 2. Blank: the agent does not fit that world. "
            "Tuned: the best of a small grid of settings in other tasks; the table has the defaults too."
        )
        yield Figure("standings", caption, partial(_draw_standings, names, standings))
    caption = (
        "Cumulative pseudo-regret on logarithmic axes. Dashed black: exact posterior sampling; dotted black: the "
        "asymptotic lower bound of Lai and Robbins, where they are known. Agents that lose nothing are not drawn. "
        "Bands: 95 % intervals over tasks."
    )
    for name, world in worlds.items():
        if any(agent["regret"]["mean"][-1] > 0 for agent in world["agents"].values()):
            yield Figure(f"world_{name}", caption, partial(_draw_world, name, world))
        yield _world_table(name, world)


def _world_table(name: str, world: World) -> Table:
    order = sorted(world["agents"].values(), key=lambda agent: agent["regret"]["mean"][-1])
    rows = [(agent, [format_value(last(agent["regret"]))]) for agent in order]
    skipped = "; ".join(f"{who}: {why}" for who, why in world["skipped"].items())
    facts = f"Optimal return of an episode, exact: {format_value(world['optimum'], 4)}. Not playing: {skipped or '-'}."
    columns = [f"regret after {world['steps'][-1]:,} steps [95 % interval]"]
    return agents_table(name, columns, rows, facts, appendix=True)


def _draw_standings(worlds: list[str], standings: list[Standing]) -> Any:
    """Agents from top to bottom, best mean first, worlds from left to right; blank where an agent does not play.

    Worlds in which the same agents play stand together, in as many panels as give each number its room.
    """
    rows = [row for row in standings if row.kind != "oracle" and row.is_drawn]
    share = np.array([row.shares for row in rows], float)  # None becomes NaN
    order = sorted(range(len(worlds)), key=lambda world: tuple(np.isnan(share[:, world])))
    parts = np.array_split(order, -(-len(worlds) // PANEL_WORLDS))
    players = [np.flatnonzero(np.isfinite(share[:, part]).any(1)) for part in parts]
    heights = [0.9 * TEXT_INCHES * len(each) for each in players]
    height = 0.5 + sum(heights) + len(parts) * NAMES_INCHES
    subtitle = "regret as a share of uniform play's, the darker the less; best mean first, oracles left out"
    figure = canvas("Who does well where", subtitle, height)
    top, panels = height - 0.4, []
    for part, who, tall in zip(parts, players, heights, strict=True):
        top -= NAMES_INCHES
        panel = figure.add_axes((0.3, (top - tall) / height, 0.63, tall / height))
        _draw_panel(panel, [worlds[world] for world in part], [rows[row] for row in who], share[np.ix_(who, part)])
        panels.append(panel)
        top -= tall
    left = max(widest(figure, panel.get_yticklabels()) for panel in panels) + 0.02
    for panel in panels:
        place = panel.get_position()
        panel.set_position((left, place.y0, 0.93 - left, place.height))
    return figure


def _draw_panel(axes: Any, worlds: list[str], rows: list[Standing], share: np.ndarray) -> None:
    """Some worlds, and those who play there; ``share`` [R, W] is NaN where an agent does not play."""
    drawn = np.log10(np.clip(share, LEAST, MOST))
    axes.imshow(drawn, cmap="cividis", vmin=np.log10(LEAST), vmax=np.log10(MOST), aspect="auto")
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(worlds)), worlds, rotation=50, ha="left", rotation_mode="anchor", fontsize=6.5)
    axes.set_yticks(range(len(rows)), [shorten(row.label, 34) for row in rows], fontsize=7)
    for text, standing in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if standing.kind == "model" else "normal")
    for row, column in np.argwhere(np.isfinite(share)):
        color = "white" if drawn[row, column] < -0.8 else INK
        value = f"{share[row, column]:.2f}".removeprefix("0")
        axes.text(column, row, value, ha="center", va="center", fontsize=5.5, color=color)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def _draw_world(name: str, world: World) -> Any:
    """Regret against time, both on logarithmic axes; agents that lose nothing have no place there."""
    agents = {player: agent for player, agent in drawn(world["agents"]).items() if agent["regret"]["mean"][-1] > 0}
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


def _numbers(worlds: dict[str, World], head: Head) -> Iterator[Number]:
    for name, world in worlds.items():
        yield from curve_numbers(world, head, "steps", "worlds", "step", "regret", name)
        value = world["optimum"]
        bounds = value["mean"], value["low"], value["high"]
        yield Number(name, "worlds", "", "", "optimal return", "", None, *bounds, 1, world["num_tasks"])
        for step, bound in zip(world["steps"], world["lower_bound"] or (), strict=False):
            yield Number(name, "worlds", "", "", "lower bound of the regret", "step", step, bound, None, None, 1, None)


SECTION = Section("worlds", _check, _show, numbers=_numbers)
