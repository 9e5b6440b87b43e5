"""What a finished experiment says: the schema of ``results.json``, and the rows that its tables have.

Everything in the report, the figures and TensorBoard is drawn from this one document, so a number that is not in
``results.json`` is nowhere. Letters: T steps of interaction, P prefix lengths, M logged training steps.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal, NotRequired, TypedDict

SCHEMA = 1
KINDS = ("model", "ideal", "baseline", "oracle")


class Value(TypedDict):
    """One number with its interval; low <= mean <= high."""

    mean: float
    low: float
    high: float


class Band(TypedDict):
    """A curve with its interval, [T] or [P] each; low <= mean <= high."""

    mean: list[float]
    low: list[float]
    high: list[float]


class AgentCurve(TypedDict):
    """One agent in one evaluation, with the one curve that its section is about."""

    kind: Literal["model", "ideal", "baseline", "oracle"]  # ideal: exact posterior sampling; oracle: knows the task
    label: str  # what readers see, "DPT (ours)"
    interval: str  # how the band was computed, ``Interval.method``
    regret: NotRequired[Band]  # [T] cumulative pseudo-regret in reward units
    suboptimality: NotRequired[Band]  # [P] expected loss of the greedy action in reward units
    returns: NotRequired[Band]  # [E] return of an episode, as it was: never smoothed


class Online(TypedDict):
    """Agents acting and learning for T steps in held-out tasks."""

    steps: list[int]  # [T] 1..T
    agents: dict[str, AgentCurve]


class Offline(TypedDict):
    """Agents acting greedily after a recorded prefix."""

    prefix: list[int]  # [P] transitions shown, >= 0, increasing
    agents: dict[str, AgentCurve]
    num_tasks: NotRequired[int]  # held-out tasks here, where it is not the document's num_tasks


class Episodes(TypedDict):
    """Agents living through E episodes of held-out tasks, their memory kept from one to the next."""

    episode: list[int]  # [E] 1..E
    agents: dict[str, AgentCurve]


class CrossEntropy(TypedDict):
    """Cross-entropy of the optimal action given a prefix, in nats, on held-out tasks."""

    prefix: list[int]  # [P]
    model: Band  # [P]
    ideal: Band | None  # [P] of the exact posterior, the least that can be reached
    gap: Band | None  # [P] model - ideal, paired on the same tasks
    num_tasks: NotRequired[int]  # held-out tasks here, where it is not the document's num_tasks


class Training(TypedDict):
    """What one training seed logged."""

    step: list[int]  # [M]
    loss: list[float]  # [M]
    val_loss: list[float | None] | None  # [M], None where it was not measured


class World(TypedDict):
    """Agents learning in tasks of one family: one row of a leaderboard."""

    steps: list[int]  # [P] in 1..T, increasing
    agents: dict[str, AgentCurve]  # with regret [P]
    num_tasks: int  # held-out tasks here
    optimum: Value  # return of an episode of optimal play, exact in each task
    lower_bound: list[float] | None  # [P] of the regret, asymptotic; None where none is known
    skipped: dict[str, str]  # agents that do not fit, and why


class Diversity(TypedDict):
    """Models pretrained on pools of D tasks each, against the posteriors that memorise the pool and that do not."""

    pool_size: list[int]  # [D] increasing
    pool: dict[str, AgentCurve]  # with regret [D] after all steps, in tasks of the pool
    fresh: dict[str, AgentCurve]  # the same in tasks that no model has met
    prefix: list[int]  # [P] transitions shown, increasing
    distance: list[list[float]]  # [P][D] 0: chooses as the generalising posterior, 1: as the memorising one


class Check(TypedDict):
    """One promise of the experiment and whether it held."""

    what: str
    measured: Value
    target: str  # "<= 1.10"
    ok: bool


class Published(TypedDict):
    """A number from a paper to hold ours against."""

    what: str
    value: float | str
    where: str  # paper, figure or table


class Routing(TypedDict):
    """Which experts of one branch of a mixture serve whom: mean gates, each row sums to 1."""

    branch: str
    groups: list[str]  # [G] kinds of tokens, then sequences
    share: list[list[float]]  # [G][E]


class Table(TypedDict):
    """Numbers side by side that are no curves."""

    title: str
    columns: list[str]
    rows: list[list[str | float | Value]]  # one cell a column
    note: NotRequired[str]  # how they were measured


class Results(TypedDict):
    """The whole document. Sections an experiment does not have are absent or None."""

    schema: int  # SCHEMA
    experiment: str
    preset: str
    seed: int
    train_seeds: list[int]
    env: dict[str, Any]  # {"id": ..., settings ...}
    num_tasks: int  # held-out tasks behind every mean
    num_steps: int  # T
    tasks_were_seen: NotRequired[bool]  # the family has so few tasks that models were trained on those they play in
    title: str
    claim: str  # one sentence
    checks: list[Check]
    seconds: dict[str, float]  # wall-clock by part, "total" among them
    device: str
    versions: dict[str, str]
    online: NotRequired[Online | None]
    episodes: NotRequired[Episodes | None]
    offline: NotRequired[Offline | None]
    cross_entropy: NotRequired[CrossEntropy | None]
    worlds: NotRequired[dict[str, World] | None]  # by the environment's name
    diversity: NotRequired[Diversity | None]
    training: NotRequired[dict[str, Training] | None]  # by training seed, or means over seeds by model
    routing: NotRequired[list[Routing] | None]  # of the first model
    tables: NotRequired[list[Table] | None]
    published: NotRequired[list[Published] | None]


def tasks_behind(results: Results, section: Any) -> int:
    """How many held-out tasks the means of a section (or of the whole document) are over."""
    return (section or {}).get("num_tasks", results["num_tasks"])


def tasks_in_words(results: Results, count: int, unseen: str = "unseen tasks") -> str:
    """``count`` tasks in words: "200 unseen tasks", or that models had been trained on them."""
    return f"{count:,} {'rollouts in tasks seen in training' if results.get('tasks_were_seen') else unseen}"


def final_rows(results: Results) -> Iterator[tuple[str, AgentCurve, Value, float | None]]:
    """Yield (name, agent, regret after the last step, its ratio to the ideal agent's or None), best agent first."""
    online = results.get("online")
    agents = online["agents"] if online else {}
    finals = {name: last(agent["regret"]) for name, agent in agents.items()}
    ideal = next((finals[name]["mean"] for name, agent in agents.items() if agent["kind"] == "ideal"), 0.0)
    for name in sorted(finals, key=lambda name: finals[name]["mean"]):
        ratio = finals[name]["mean"] / ideal if ideal > 0 else None
        yield name, agents[name], finals[name], ratio


def return_rows(results: Results) -> Iterator[tuple[str, AgentCurve, float, Value]]:
    """Yield (name, agent, mean return over all episodes, return in the last episode), best mean first."""
    episodes = results.get("episodes")
    agents = episodes["agents"] if episodes else {}
    means = {name: sum(agent["returns"]["mean"]) / len(agent["returns"]["mean"]) for name, agent in agents.items()}
    for name in sorted(means, key=lambda name: -means[name]):
        yield name, agents[name], means[name], last(agents[name]["returns"])


def world_title(name: str) -> str:
    """The id of an environment in words: "ContextualLinearBandit-v0" is "Contextual Linear Bandit"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name.removesuffix("-v0"))


def leaderboard(results: Results) -> tuple[list[str], list[tuple[str, str, list[float | None]]]]:
    """The worlds, and of each agent (kind, label, regret in each as a share of uniform play's), best mean first.

    The share is None where the agent does not play, or uniform play loses nothing.
    """
    worlds = results.get("worlds") or {}
    kinds: dict[str, tuple[str, str]] = {}
    shares: dict[str, dict[str, float]] = {}
    for name, world in worlds.items():
        finals = {player: agent["regret"]["mean"][-1] for player, agent in world["agents"].items()}
        for player, agent in world["agents"].items():
            # the ideal of one world is a baseline in another, so only models and oracles keep their looks
            looks = agent["kind"] in ("model", "oracle")
            kinds[player] = (agent["kind"], agent["label"]) if looks else ("baseline", player)
            found = shares.setdefault(player, {})
            if finals.get("uniform", 0.0) > 0:
                found[name] = finals[player] / finals["uniform"]
    means = {player: sum(row.values()) / max(len(row), 1) for player, row in shares.items()}
    order = sorted(means, key=lambda player: means[player])
    return list(worlds), [(*kinds[player], [shares[player].get(name) for name in worlds]) for player in order]


def last(band: Band) -> Value:
    """The last value of a curve, with its interval."""
    return {"mean": band["mean"][-1], "low": band["low"][-1], "high": band["high"][-1]}
