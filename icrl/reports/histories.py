"""A look into stored learning histories: their learning curves as text and as a picture, and walks through a room."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icrl.datasets.histories import StoredHistories, episodes
from icrl.envs._grid_room import GridRoom
from icrl.filters._effect import Effect
from icrl.reports.charts import to_png
from icrl.reports.figures import draw_learning_curves
from icrl.reports.numbers import NO_NUMBER, short_number
from icrl.reports.walks import draw_walks
from icrl.storage.publish import publish_file

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 40  # characters of a curve
BEST = "best return; an empty one its worst, or 0"  # where no optimum is known
SHOWN = 20  # tasks listed, evenly spread from the worst to the best


def describe(stored: StoredHistories) -> str:
    """The data set in words: what it is, how its returns are distributed, and each task's mean learning curve."""
    returns, gained, optimal = _by_task(stored), *_in_units(stored)
    first, last, share = _ends(returns, 0), _ends(returns, -1), _ends(gained, -1)
    about = {name: value for name, value in stored.card.items() if name not in ("task_ids", "optimal_return")}
    lines = [f"{name}: {value}" for name, value in about.items()]
    lines += [
        f"histories: {stored.num_tasks} tasks x {stored.num_histories} x {stored.num_steps} transitions",
        f"digest: {stored.digest}",
        "",
        f"return of an episode     5 %   median     95 %     mean  of {'best' if stored.is_foreign else 'optimum'}",
        _spread("first tenth", first, _ends(gained, 0) / optimal[:, None]),
        _spread("last tenth", last, share / optimal[:, None]),
        "",
        f"mean learning curves, worst task first; a full bar is the task's {BEST if stored.is_foreign else 'optimum'}",
    ]
    order = np.argsort(share.mean(1) / optimal, kind="stable")
    for row in order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]:
        curve = gained[row].mean(0) / optimal[row]
        task, full = stored.card["task_ids"][row], stored.optimal_return[row]
        lines.append(f"task {task:>6}  {_bars(curve)}  {last[row].mean():6.2f} of {full:.2f}")
    return "\n".join(lines)


def describe_effects(found: Mapping[str, Effect]) -> str:
    """What a filter did to a data set, a quantity a line."""
    lines = ["of the histories     collected    filtered      change"]
    for what, (before, after) in found.items():
        change = f"{after / before - 1:+.1%}" if before else NO_NUMBER
        cells = [f"{each:,}" if isinstance(each, int) else short_number(each, 4) for each in (before, after)]
        lines.append(f"{what:<18} {cells[0]:>11} {cells[1]:>11} {change:>11}")
    return "\n".join(lines)


def draw(stored: StoredHistories, path: Path) -> None:
    """Write a PNG of the learning curves to ``path``, and below them walks if they were lived in a grid room."""
    figures = [
        draw_learning_curves(_by_task(stored), stored.optimal_return, "best" if stored.is_foreign else "optimum")
    ]
    room = stored.environment()
    if isinstance(room, GridRoom):
        figures.append(_draw_typical(stored, room))
    publish_file(path, to_png(*figures))


def _draw_typical(stored: StoredHistories, room: GridRoom) -> Any:
    """The first, the middle and the last whole episode of the median history, as measured by its last returns."""
    last = _ends(_by_task(stored), -1).reshape(-1)
    row = int(np.argsort(last, kind="stable")[len(last) // 2])
    position, number = divmod(row, stored.num_histories)
    lived, task = stored.of_task(position)[number], stored.card["task_ids"][position]
    whole = episodes(lived)[: int((lived.terminated | lived.truncated).sum())]
    chosen = np.unique([0, len(whole) // 2, len(whole) - 1])
    shown = {f"episode {place + 1:,} of {len(whole):,}": whole[place] for place in chosen}
    title = f"History {number} of task {task}, the median one by its last returns"
    return draw_walks(room, room.task(task), shown, title)


def _by_task(stored: StoredHistories) -> np.ndarray:
    """Episode returns [tasks, R, E]."""
    return stored.episode_returns().reshape(stored.num_tasks, stored.num_histories, -1)


def _in_units(stored: StoredHistories) -> tuple[np.ndarray, np.ndarray]:
    """Returns [tasks, R, E] and what a full bar is [tasks]; where no optimum is known both count from the worst."""
    returns, optimal = _by_task(stored), stored.optimal_return
    if not stored.is_foreign:
        return returns, optimal
    lowest = np.minimum(returns.min((1, 2)), 0.0)
    return returns - lowest[:, None, None], np.where(optimal > lowest, optimal - lowest, 1.0)


def _ends(returns: np.ndarray, at: int) -> np.ndarray:
    """Mean return [tasks, R] over the first (0) or last (-1) tenth of the episodes."""
    tenth = max(1, returns.shape[-1] // 10)
    return (returns[..., :tenth] if at == 0 else returns[..., -tenth:]).mean(-1)


def _spread(label: str, values: np.ndarray, share: np.ndarray) -> str:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return f"{label:<20} {low:8.2f} {middle:8.2f} {high:8.2f} {values.mean():8.2f} {float(share.mean()):10.1%}"


def _bars(curve: np.ndarray) -> str:
    """A curve in units of the optimum as block characters."""
    pieces = np.array_split(curve, min(COLUMNS, len(curve)))
    heights = np.clip([piece.mean() for piece in pieces], 0.0, 1.0) * (len(BARS) - 1)
    return "".join(BARS[round(float(height))] for height in heights)
