"""The parts of a recipe that no other kind of thing declares: data, prediction and evaluation.

``None`` and empty values mean "as fits the environment"; the properties of ``Recipe`` say what that is.

Letters: C steps in a training context or window, T steps of an evaluation.
"""

import dataclasses
import functools
from pathlib import Path

from icrl.core.errors import require, require_float, require_int
from icrl.core.registry import filters, layouts, objectives
from icrl.core.settings import check_following, follows
from icrl.datasets.store import StoredRecords
from icrl.envs._splits import SPLITS
from icrl.filters._table import Filter
from icrl.recipes.agent_names import check_agent

CONTEXTS, HISTORIES = "contexts", "histories"
INDEPENDENT = "independent"  # the source of transitions from uniform states under uniform actions
WHOLE, ROLLING, LAST_EPISODE = "whole", "rolling", "last-episode"
RULES = (WHOLE, ROLLING, LAST_EPISODE)


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """How the pretraining data come to be."""

    data: str = CONTEXTS  # contexts: made as training goes; histories: collected, filtered, cut; or a folder of either
    source: tuple[str, ...] = ()  # agents that collect, in turn; none: as fits; "0.1*psrl+0.9*uniform" mixes two
    context_steps: int | None = None  # C, transitions in a context or window; none: as fits the episodes
    most_steps: int | None = None  # C at most, where it is as fits the episodes
    elsewhere: float = 0.0  # probability that a DPT query is a uniform state instead of the next one
    skip_episodes: int = 0  # most episodes of a source's rollout in front of a context
    pool: int | None = None  # contexts, seen again and again; none: every batch is new
    task_pool: int | None = None  # D, tasks that contexts are drawn in, each again and again; none: each has its own
    shuffle: bool = False  # permute the transitions of a context at every fetch (not for a source that learns)
    train_tasks: int = 60  # tasks with histories, at most
    histories: int = 4  # histories of each
    history_steps: int | None = None  # transitions in a history; none: 1000 where episodes are short, else C
    streams: bool = False  # histories of a task are parallel streams of one learner (ppo, a2c)
    noisy_fraction: float = 0.0  # of a task's histories that are replaced by a uniform player's
    segment: int | None = None  # steps whose rewards make one return for a filter; none: an episode, or T / 20
    filter: str = "keep-all"  # registered filter of histories
    rule: Filter = dataclasses.field(default_factory=lambda: filters["keep-all"](), metadata=follows("filter", filters))
    keep_every: int = 1  # of every so many segments of a history the first is kept
    train_fraction: float = 0.9  # of the tasks of a family that numbers them; the others are held out
    split: str = "son-2025"  # how tasks are shuffled before the first are taken: son-2025 (Python), lee-2023 (NumPy)
    split_seed: int = 0  # of that shuffle

    def __post_init__(self) -> None:
        check_following(self)
        for name in self.source:
            if name != INDEPENDENT:
                check_agent(name)
        require(self.split in SPLITS, "split", self.split, " or ".join(SPLITS))
        for field, low, high in (
            ("context_steps", 2, 2**16),
            ("most_steps", 2, 2**16),
            ("pool", 1, 2**31 - 1),
            ("task_pool", 1, 2**31 - 1),
            ("history_steps", 2, 2**24),
            ("segment", 1, 2**24),
        ):
            if getattr(self, field) is not None:
                require_int(field, getattr(self, field), low, high)
        require_float("elsewhere", self.elsewhere, 0.0, 1.0)
        require_int("skip_episodes", self.skip_episodes, 0, 2**20)
        require_int("train_tasks", self.train_tasks, 1, 2**24)
        require_int("histories", self.histories, 1, 2**20)
        require_float("noisy_fraction", self.noisy_fraction, 0.0, 1.0)
        require_float("train_fraction", self.train_fraction, 0.0, 1.0, open_low=True)
        require_int("keep_every", self.keep_every, 1, 2**20)

    @property
    def kind(self) -> str:
        """Contexts or histories, also where ``data`` is a folder."""
        return self.data if self.data in (CONTEXTS, HISTORIES) else _kind_of(self.data)

    @property
    def folder(self) -> str:
        """The folder of stored data; empty if they are made."""
        return "" if self.data in (CONTEXTS, HISTORIES) else self.data


@functools.lru_cache(maxsize=64)
def _kind_of(folder: str) -> str:
    known = f"{CONTEXTS}, {HISTORIES} or a folder of `icrl collect`"
    require(Path(folder).is_dir(), "data", folder, known)
    return CONTEXTS if "query" in StoredRecords(folder, verify=False).fields else HISTORIES


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is predicted from what, and how transitions become tokens."""

    objective: str = "dpt"  # registered objective: dpt, the optimal action; ad, the source's own
    layout: str = "pairs"  # registered layout
    one_hot: bool = True  # whole-numbered observations enter one-hot; false: as raw numbers
    label_smoothing: float = 0.0  # of the source's actions (ad)
    mask_prob: float = 0.0  # of an input token in training (ad)

    def __post_init__(self) -> None:
        objectives.entry(self.objective)
        layouts.entry(self.layout)
        require_float("label_smoothing", self.label_smoothing, 0.0, 1.0)
        require_float("mask_prob", self.mask_prob, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the frozen models are evaluated on, for how long, and against whom."""

    eval_tasks: int = 200  # held-out tasks, at most
    rollouts_per_task: int = 1  # rollouts in each, averaged
    eval_steps: int | None = None  # T; none: C with contexts, with histories a history's length
    context: tuple[str, ...] = ()  # what decisions rest on, each of whole, rolling and last-episode; none: as fits
    window: int | None = None  # W, transitions that a context holds in the evaluation, C by default
    forget: int | None = None  # steps that leave a full rolling context at once; none: an episode, or a quarter of W
    competitors: tuple[str, ...] = ("all",)  # agents on the same draws; all: every one that fits and learns
    offline_competitors: tuple[str, ...] = ()  # agents that choose on given contexts, for bandits; none: the exact one
    offline_tasks: int = 200  # contexts behind the cross-entropy and the offline choice, for bandits
    given: tuple[str, ...] = ()  # who makes the episodes that are given as context for another one (last-episode)
    given_contexts: int = 25  # given episodes of each in each held-out task

    def __post_init__(self) -> None:
        require_int("eval_tasks", self.eval_tasks, 2, 10**7)
        require_int("rollouts_per_task", self.rollouts_per_task, 1, 2**20)
        require_int("offline_tasks", self.offline_tasks, 2, 10**7)
        require_int("given_contexts", self.given_contexts, 1, 2**20)
        for field in ("eval_steps", "forget", "window"):
            if getattr(self, field) is not None:
                require_int(field, getattr(self, field), 1, 2**24)
        for rule in self.context:
            require(rule in RULES, "context", rule, " or ".join(RULES))
        require(len(set(self.context)) == len(self.context), "context", self.context, "each rule once")
        for name in (*self.competitors, *self.offline_competitors, *self.given):
            if name not in ("all", INDEPENDENT):
                check_agent(name)
