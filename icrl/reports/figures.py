"""The figures of a results document, drawn; ``charts`` has their look, ``sections`` say what is in each."""

from typing import Any

import numpy as np

from icrl.reports.charts import INK, STRONG, chart, our_style
from icrl.reports.schema import Results, contents
from icrl.reports.section import Figure


def draw_figures(results: Results) -> dict[str, Any]:
    """Return {file stem: matplotlib Figure} for the sections that ``results`` has."""
    with our_style():
        return {name: figure.draw() for name, figure in _figures(results).items()}


def draw_figure(results: Results, name: str) -> Any:
    """One of the figures of ``results``."""
    with our_style():
        return _figures(results)[name].draw()


def figure_names(results: Results) -> list[str]:
    """The names of the figures of ``results``."""
    return list(_figures(results))


def _figures(results: Results) -> dict[str, Figure]:
    figures = [item for items in contents(results) for item in items if isinstance(item, Figure)]
    return {figure.name: figure for figure in figures}


def draw_learning_curves(returns: np.ndarray, optimal: np.ndarray, what: str = "optimum") -> Any:
    """A figure of stored learning histories: returns [tasks, R, E], optimal returns [tasks], ``what`` these are.

    Faint: the mean curve of each task; thick: their mean; band: the middle 90 % of all histories.
    """
    with our_style():
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
        axes.annotate(f"mean {what}", (episode[-1], optimal.mean()), ha="right", va="bottom", fontsize=9.5, color=INK)
        axes.set_ylim(bottom=min(0.0, float(returns.min())))
        axes.margins(x=0.0)
        figure.subplots_adjust(right=0.97)
    return figure
