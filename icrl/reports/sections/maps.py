"""Maps of a room that is seen symbol by symbol: what is predicted along walks, the maps, and a way planned on each."""

from collections.abc import Iterator
from functools import partial
from typing import Any, TypedDict

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import INK, QUIET, STRONG, canvas
from icrl.reports.forms import AgentCurve, check_agents, check_keys
from icrl.reports.lines import agents_chart
from icrl.reports.section import Figure, Head, Number, Section, curve_numbers, tasks_in_words

WRONG = "#c1121f"
SHADES = ("#f4efe6", "#d8e2dc", "#ffe5d9", "#d7e3fc", "#e8dff5", "#fcf4d9", "#dff0ea", "#fbdfe3")  # of symbols, in turn


class Drawn(TypedDict):
    """A map laid over the room: each node lies in the cell that it stands for most often."""

    label: str
    room: list[list[int]]  # [R][C] the symbol of each cell, -1: a wall
    cell: list[int]  # [N] number of the node's cell, row-major
    visits: list[int]  # [N] how often the walks were there
    edges: list[list[int]]  # [E] pairs of nodes
    right: list[bool]  # [E] whether a move leads from the one's cell to the other's
    way: list[int]  # cells of a planned way, the start among them; empty: none was planned
    walked: list[int]  # cells of the stretch of the walk between the same two


class Maps(TypedDict):
    """Predictions along walks, and the maps."""

    step: list[int]  # symbols seen before the prediction, increasing
    agents: dict[str, AgentCurve]  # with accuracy
    drawn: list[Drawn]


def _check(path: str, section: Any) -> None:
    check_agents(path, section, Maps, "step", "accuracy")
    for index, drawn in enumerate(section["drawn"]):
        place = f"{path}.drawn[{index}]"
        check_keys(place, drawn, Drawn)
        nodes, cells = len(drawn["cell"]), sum(map(len, drawn["room"]))
        alike = len(drawn["visits"]) == nodes and len({len(row) for row in drawn["room"]}) == 1
        require(
            alike, place, f"{len(drawn['visits'])} visits", f"one for each of {nodes} nodes, and rows of one length"
        )
        require(len(drawn["right"]) == len(drawn["edges"]), f"{place}.right", len(drawn["right"]), "one for each edge")
        inside = all(len(edge) == 2 and min(edge) >= 0 and max(edge) < nodes for edge in drawn["edges"])
        require(inside, f"{place}.edges", drawn["edges"], f"pairs of numbers below {nodes}")
        listed = [*drawn["cell"], *drawn["way"], *drawn["walked"]]
        require(all(0 <= cell < cells for cell in listed), place, listed, f"cells below {cells}")


def _show(section: Maps, head: Head) -> Iterator[Figure]:
    caption = (
        "Share of right predictions of the next symbol after so many symbols, over "
        f"{tasks_in_words(head, unseen='walks')} that no model was trained on. "
        "Dashed black: the exact filter, which knows the room but not the place."
    )
    labels = "symbols seen", "accuracy of the next symbol"
    draw = partial(agents_chart, "What comes next", section["agents"], "accuracy", section["step"], labels, log=True)
    yield Figure("next_symbol", caption, draw)
    caption = (
        "Left: each node of the map in the cell where its code is met most often, the larger the more often; lines are "
        "edges, red where no move joins the two cells. Right: a way planned on the map, done with eyes closed, and "
        "(thin) the stretch of the walk that joins the same two places."
    )
    for number, drawn in enumerate(section["drawn"]):
        yield Figure(f"map_{number}", caption, partial(_draw, drawn))


def _draw(drawn: Drawn) -> Any:
    """The map over the room beside a planned way."""
    nodes, wrong = len(drawn["cell"]), len(drawn["right"]) - sum(drawn["right"])
    subtitle = f"{nodes} nodes, {len(drawn['edges'])} edges, {wrong} of them wrong"
    room = np.asarray(drawn["room"])
    height = float(np.clip(3.75 * room.shape[0] / room.shape[1] + 1.1, 2.5, 12.0))  # inches; a room is 3.75 wide
    figure = canvas(f"The map of {drawn['label']}", subtitle, height)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.1 / height, top=1 - 0.9 / height, wspace=0.06)
    left, right = figure.subplots(1, 2)
    for axes, title in ((left, "the map over the room"), (right, _of_way(drawn))):
        _draw_room(axes, room)
        axes.set_title(title, fontsize=10, color=INK)
    places = _node_places(drawn)
    for (start, end), is_right in zip(drawn["edges"], drawn["right"], strict=True):
        look = {"color": STRONG[1], "linewidth": 1.0} if is_right else {"color": WRONG, "linewidth": 1.6}
        left.plot(*places[[start, end]].T, zorder=2 + (not is_right), solid_capstyle="round", **look)
    size = np.sqrt(np.asarray(drawn["visits"], float))
    left.scatter(*places.T, s=10 + 60 * size / max(size.max(), 1), color=STRONG[1], edgecolor="white", zorder=4)
    _draw_way(right, drawn["walked"], len(drawn["room"][0]), {"color": QUIET, "linewidth": 1.0, "alpha": 0.8})
    _draw_way(right, drawn["way"], len(drawn["room"][0]), {"color": STRONG[0], "linewidth": 3.2})
    return figure


def _of_way(drawn: Drawn) -> str:
    if not drawn["way"]:
        return "no way was planned"
    return f"a way of {len(drawn['way']) - 1} moves; the walk took {len(drawn['walked']) - 1}"


def _draw_room(axes: Any, room: np.ndarray) -> None:
    from matplotlib.colors import to_rgb

    shades = np.array([to_rgb(shade) for shade in SHADES])
    axes.imshow(np.where((room < 0)[..., None], 0.25, shades[room % len(SHADES)]), zorder=0)
    axes.set_xticks([])
    axes.set_yticks([])
    for row, column in zip(*np.nonzero(room >= 0), strict=True):
        axes.text(column - 0.36, row - 0.28, room[row, column], fontsize=7, color=QUIET, ha="center", va="center")


def _node_places(drawn: Drawn) -> np.ndarray:
    """(x, y) [N, 2] of the nodes: the middle of the cell, around it where several share it."""
    cells = np.asarray(drawn["cell"], int)
    row, column = np.divmod(cells, len(drawn["room"][0]))
    places = np.stack([column, row], axis=1).astype(float)
    for cell in np.unique(cells):
        mine = np.flatnonzero(cells == cell)
        if len(mine) > 1:
            turn = 2 * np.pi * np.arange(len(mine)) / len(mine)
            places[mine] += 0.22 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return places


def _draw_way(axes: Any, cells: list[int], columns: int, look: dict[str, Any]) -> None:
    """A line through ``cells``, broken where it goes over an edge of a torus, with its two ends marked."""
    if not cells:
        return
    row, column = np.divmod(np.asarray(cells, int), columns)
    places = np.stack([column, row], axis=1).astype(float)
    jumps = np.flatnonzero(np.abs(np.diff(places, axis=0)).sum(1) > 1)
    axes.plot(*np.insert(places, jumps + 1, np.nan, axis=0).T, zorder=3, solid_joinstyle="round", **look)
    axes.scatter(*places[0], s=70, color="white", edgecolor=INK, zorder=5)
    axes.scatter(*places[-1], s=110, marker="*", color=INK, zorder=5)


def _numbers(section: Maps, head: Head) -> Iterator[Number]:
    yield from curve_numbers(section, head, "step", "maps", "step", "accuracy")
    for drawn in section["drawn"]:
        wrong = float(len(drawn["right"]) - sum(drawn["right"]))
        for measure, value in (("nodes", len(drawn["cell"])), ("edges", len(drawn["edges"])), ("wrong edges", wrong)):
            yield Number("", "maps", drawn["label"], "", measure, "", None, float(value), None, None, None, None)


SECTION = Section("maps", _check, _show, numbers=_numbers)
