"""Agents that keep their memory over several episodes of held-out tasks: return by episode."""

from collections.abc import Iterator
from functools import partial
from typing import TypedDict

import numpy as np

from icrl.reports.forms import AgentCurve, check_agents, drawn, intervals_in_words, last, tuning_in_words
from icrl.reports.lines import agents_chart
from icrl.reports.numbers import format_value, short_number
from icrl.reports.section import Curves, Figure, Head, Section, Table, agents_table, curve_numbers, tasks_in_words


class Episodes(TypedDict):
    """Agents in E episodes of held-out tasks, their memory kept from one to the next."""

    episode: list[int]  # [E] 1..E
    agents: dict[str, AgentCurve]


def _show(episodes: Episodes, head: Head) -> Iterator[Figure | Table]:
    agents, axis = episodes["agents"], episodes["episode"]
    caption = (
        "Return of each episode of agents that start with no knowledge of their task and keep their memory from one "
        f"episode to the next. Means over {tasks_in_words(head, unseen='held-out tasks')}, as they were, not "
        f"smoothed. Dashed black: the ideal. Bands: {intervals_in_words(agents.values())}.{tuning_in_words(agents)}"
    )
    title = f"Return of each episode while learning in {tasks_in_words(head)}"
    labels = "episode in the task", "return"
    draw = partial(agents_chart, title, drawn(agents), "returns", axis, labels, note="; not smoothed")
    yield Figure("episode_returns", caption, draw)

    means = {name: float(np.mean(agent["returns"]["mean"])) for name, agent in agents.items()}
    rows = [
        (agents[name], [short_number(means[name]), format_value(last(agents[name]["returns"]))])
        for name in sorted(means, key=lambda name: -means[name])
    ]
    columns = ["mean over episodes", "last episode [95 % interval]"]
    yield agents_table("Return of an episode, best first", columns, rows)


SECTION = Section(
    "episodes",
    partial(check_agents, form=Episodes, axis="episode", field="returns"),
    _show,
    Curves("episode", "returns", "return of an episode"),
    partial(curve_numbers, key="episode", name="episodes", axis="episode", field="returns"),
)
