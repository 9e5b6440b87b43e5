"""Agents that are shown a recorded prefix and never act themselves: expected loss of the greedy action."""

from collections.abc import Iterator
from functools import partial
from typing import NotRequired, TypedDict

from icrl.reports.forms import AgentCurve, check_agents, intervals_in_words
from icrl.reports.lines import agents_chart
from icrl.reports.section import Figure, Head, Section, curve_numbers, tasks_in_words


class Offline(TypedDict):
    """Agents acting greedily after a recorded prefix."""

    prefix: list[int]  # [P] transitions shown, >= 0, increasing
    agents: dict[str, AgentCurve]
    num_tasks: NotRequired[int]  # held-out tasks here, where it is not the document's num_tasks


def _show(offline: Offline, head: Head) -> Iterator[Figure]:
    agents, axis = offline["agents"], offline["prefix"]
    caption = (
        "Expected loss of the greedy action when the agent is shown a recorded prefix and never acts itself. "
        f"Means over {tasks_in_words(head, offline, 'held-out tasks')}. Dashed black: the ideal. "
        f"Bands: {intervals_in_words(agents.values())}."
    )
    title = f"Greedy choice after a recorded prefix, {tasks_in_words(head, offline)}"
    labels = "transitions in the prefix", "suboptimality (reward units per step)"
    draw = partial(agents_chart, title, agents, "suboptimality", axis, labels, log=True)
    yield Figure("offline_suboptimality", caption, draw)


SECTION = Section(
    "offline",
    partial(check_agents, form=Offline, axis="prefix", field="suboptimality"),
    _show,
    numbers=partial(curve_numbers, key="prefix", name="offline", axis="prefix", field="suboptimality"),
)
