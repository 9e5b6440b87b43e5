"""Tables and figures of the papers' pages, made from the published numbers and the kept runs (``reproductions.py``).

A page of ``docs/papers`` says ``{{ reproductions: NAME }}`` where the table of an experiment and its figure belong.
"""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import reproductions
from matplotlib.figure import Figure
from reproductions import Theirs, Value

from icrl.core.registry import experiments

CAPTION = "Grey: published, with what the paper gives as its error. Blue: ours, with the 95 % interval."
THEIRS, OURS = "#8a8a8a", "#3f51b5"


def comparison(name: str) -> str:
    """The table of an experiment's published numbers beside ours, and a figure of both if a run of ours is kept."""
    table = "\n".join(reproductions.table(name)).replace("](", "](../")
    if not reproductions.kept_runs(name):
        return table
    return f"{table}\n\n![Published numbers of {name} beside ours](../papers/{name}.svg)\n\n*{CAPTION}*"


def figures() -> dict[str, str]:
    """The figure of every experiment with published numbers and a kept run, as SVG by path below ``docs``."""
    names = [name for name in experiments if experiments[name].published and reproductions.kept_runs(name)]
    return {f"papers/{name}.svg": figure(name) for name in names}


def figure(name: str) -> str:
    """Every published number of an experiment (grey) with ours (blue) below it, a claim a panel."""
    claims, runs = experiments[name].published, reproductions.kept_runs(name)
    height = sum(len(_published(claim)) for claim in claims)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}):
        drawn = Figure((7.0, 0.55 * height + 0.6 * len(claims)), layout="constrained")
        ratios = [len(_published(claim)) + 0.5 for claim in claims]
        for axes, claim in zip(
            drawn.subplots(len(claims), height_ratios=ratios, squeeze=False)[:, 0], claims, strict=True
        ):
            ours = [run["numbers"][claim["what"]] for run in runs]
            _draw_claim(axes, claim, ours)
        out = io.StringIO()
        drawn.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _published(claim: Mapping[str, Any]) -> list[Theirs]:
    return reproductions.theirs(str(claim["value"]))


def _draw_claim(axes: Any, claim: Mapping[str, Any], runs: list[list[Value | None]]) -> None:
    """One panel: their k-th number at height -k with its error, and that of each kept run below."""
    for place, number in enumerate(_published(claim)):
        axes.errorbar(number.mean, -place, xerr=number.error, fmt="o", color=THEIRS, capsize=3)
        for run in runs:
            if (own := run[place]) is not None:
                ends = [[own["mean"] - own["low"]], [own["high"] - own["mean"]]]
                axes.errorbar(own["mean"], -place - 0.35, xerr=ends, fmt="o", color=OURS, capsize=3)
    count, is_run = len(_published(claim)), any(value is not None for run in runs for value in run)
    axes.set_title(
        f"{claim['what']} ({claim['where']})" + ("" if is_run else ": not measured here"), fontsize=9, loc="left"
    )
    axes.set_ylim(-count + 0.3, 0.35)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.set_yticks([])
    axes.spines[["left", "right", "top"]].set_visible(False)
