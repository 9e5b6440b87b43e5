"""Which experts of a mixture serve which tokens and sequences."""

from collections.abc import Iterator
from functools import partial
from typing import Any, TypedDict

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import INK, canvas, shorten
from icrl.reports.forms import check_keys
from icrl.reports.section import Figure, Head, Number, Section


class Routing(TypedDict):
    """Which experts of one branch of a mixture serve whom: mean gates, each row sums to 1."""

    branch: str
    groups: list[str]  # [G] kinds of tokens, then sequences
    share: list[list[float]]  # [G][number of experts]


def _check(path: str, branches: list[Routing]) -> None:
    for index, branch in enumerate(branches):
        place = f"{path}[{index}]"
        check_keys(place, branch, Routing)
        groups, share = branch["groups"], branch["share"]
        alike = len({len(row) for row in share}) == 1 and len(share) == len(groups)
        require(alike, f"{place}.share", f"{len(share)} rows", f"{len(groups)} rows of one length")


def _show(branches: list[Routing], head: Head) -> Iterator[Figure]:
    del head
    caption = (
        "Mean gates of the first model's experts, without noise, on sequences it was not trained on together: by kind "
        "of token, and by sequence, a and b of one task. A row sums to 1; experts that nobody needs stay white."
    )
    yield Figure("routing", caption, partial(_draw, branches))


def _draw(branches: list[Routing]) -> Any:
    """A picture of each branch: experts from left to right, who they serve from top to bottom."""
    subtitle = "mean gate of each expert by kind of token, and by sequence below the line (a and b: of one task)"
    figure = canvas("Which expert serves whom", subtitle)
    figure.subplots_adjust(left=0.12, right=0.985, bottom=0.1, top=0.84, wspace=0.35)
    for axes, branch in zip(figure.subplots(1, len(branches), squeeze=False)[0], branches, strict=True):
        share = np.asarray(branch["share"])
        axes.imshow(share, cmap="Blues", vmin=0.0, vmax=max(float(share.max()), 1e-9), aspect="auto")
        axes.set_title(branch["branch"], fontsize=10, color=INK, parse_math=False)
        axes.set_xticks(range(share.shape[1]), range(share.shape[1]), fontsize=8)
        axes.set_yticks(range(len(share)), [shorten(name, 14) for name in branch["groups"]], fontsize=8)
        axes.set_xlabel("expert", fontsize=9)
        kinds = sum(not name.startswith(("sequence", "task")) for name in branch["groups"])
        axes.axhline(kinds - 0.5, color=INK, linewidth=1.5)
    return figure


def _numbers(branches: list[Routing], head: Head) -> Iterator[Number]:
    for branch in branches:
        for group, gates in zip(branch["groups"], branch["share"], strict=True):
            facts = "", "routing", group, "", f"mean gate, {branch['branch']}", "expert"
            yield from (Number(*facts, expert, gate, None, None, 1, None) for expert, gate in enumerate(gates))


SECTION = Section("routing", _check, _show, numbers=_numbers)
