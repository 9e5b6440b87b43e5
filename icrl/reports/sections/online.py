"""Agents that act and learn in held-out tasks: regret by step."""

from collections.abc import Iterator
from functools import partial
from typing import TypedDict

from icrl.reports.forms import AgentCurve, check_agents, drawn, intervals_in_words, last, tuning_in_words
from icrl.reports.lines import agents_chart
from icrl.reports.numbers import format_ratio, format_value
from icrl.reports.section import Curves, Figure, Head, Section, Table, agents_table, curve_numbers, tasks_in_words


class Online(TypedDict):
    """Agents acting and learning for T steps in held-out tasks."""

    steps: list[int]  # [T] 1..T
    agents: dict[str, AgentCurve]


def _show(online: Online, head: Head) -> Iterator[Figure | Table]:
    agents = online["agents"]
    caption = (
        "Cumulative pseudo-regret of agents that start with no knowledge of their task. "
        f"Means over {tasks_in_words(head, unseen='held-out tasks')}, at the line's end after "
        f"{head['num_steps']:,} steps. Dashed black: the ideal. An arrow marks agents that leave the chart. "
        f"Bands: {intervals_in_words(agents.values())}.{tuning_in_words(agents)}"
    )
    title = f"Regret while learning in {tasks_in_words(head)}"
    labels = "step in the task", "cumulative pseudo-regret (reward units)"
    draw = partial(agents_chart, title, drawn(agents), "regret", online["steps"], labels)
    yield Figure("online_regret", caption, draw)

    finals = {name: last(agent["regret"]) for name, agent in agents.items()}
    ideal = next((finals[name]["mean"] for name, agent in agents.items() if agent["kind"] == "ideal"), 0.0)
    rows = [
        (agents[name], [format_value(finals[name]), format_ratio(finals[name]["mean"] / ideal if ideal > 0 else None)])
        for name in sorted(finals, key=lambda name: finals[name]["mean"])
    ]
    title = f"Regret after {head['num_steps']:,} steps, best first"
    yield agents_table(title, ["regret [95 % interval]", "ratio to ideal"], rows)


SECTION = Section(
    "online",
    partial(check_agents, form=Online, axis="steps", field="regret"),
    _show,
    Curves("steps", "regret", "cumulative regret"),
    partial(curve_numbers, key="steps", name="online", axis="step", field="regret"),
)
