"""The parts of a recipe that no other kind of thing declares: data, prediction and evaluation.

``None`` and empty values mean "as fits the environment"; the properties of ``Recipe`` say what that is.

Letters: C steps in a training context or window, T steps of an evaluation.
"""

import dataclasses
import functools
from pathlib import Path

from icrl.agents.planning import PAPER, REWARDS
from icrl.agents.planning import RULES as PLAN_RULES
from icrl.agents.planning import SCORES as PLAN_SCORES
from icrl.core.action_heads import BOX_HEADS
from icrl.core.errors import require
from icrl.core.fields import Checked, setting
from icrl.core.registry import filters, layouts, objectives
from icrl.core.settings import check_following, follows
from icrl.datasets.histories import is_foreign
from icrl.datasets.store import StoredRecords
from icrl.envs._splits import SPLITS
from icrl.filters._table import Filter
from icrl.objectives.dicp import DynamicsSettings
from icrl.objectives.rl2 import TrialSettings
from icrl.recipes.agent_names import check_agent

CONTEXTS, HISTORIES = "contexts", "histories"
KEEP_ALL = "keep-all"  # the filter that is none
INDEPENDENT = "independent"  # the source of transitions from uniform states under uniform actions
ORACLE = "oracle"  # the label that is the optimal action, whatever it takes to know it
WHOLE, ROLLING, SORTED, STREAM = "whole", "rolling", "sorted", "stream"
LAST_EPISODE, TRIAL = "last-episode", "trial"
RULES = (WHOLE, ROLLING, SORTED, STREAM, LAST_EPISODE, TRIAL)
BY_TIME, BY_RETURN = "time", "return"
NONE, GRID = "none", "grid"
TUNINGS = (NONE, GRID)  # how settings of competitors are chosen


@dataclasses.dataclass(frozen=True)
class DataSettings(Checked):
    """How the pretraining data come to be."""

    data: str = setting(
        CONTEXTS, help="contexts (made as training goes), histories (collected, filtered, cut), or a folder of either"
    )
    source: tuple[str, ...] = setting(
        (),
        help='agents that collect; none: as fits; "0.1*psrl+0.9*uniform" mixes two, run:FOLDER was pretrained',
    )
    label: str = setting(
        "",
        help="agent whose choices along a context are predicted (dpt); none: the exact policy, or the oracle",
    )
    context_steps: int | None = setting(
        None, low=2, high=2**16, help="C, transitions in a context or window; none: as fits the episodes"
    )
    most_steps: int | None = setting(None, low=2, high=2**16, help="C at most, where it is as fits the episodes")
    elsewhere: float = setting(
        0.0, low=0.0, high=1.0, help="probability that a DPT query is a uniform state instead of the next one"
    )
    skip_episodes: int = setting(0, low=0, high=2**20, help="most episodes of a source's rollout in front of a context")
    pool: int | None = setting(
        None, low=1, high=2**31 - 1, help="contexts, seen again and again; none: every batch is new"
    )
    task_pool: int | None = setting(
        None, low=1, high=2**31 - 1, help="D, tasks that contexts are drawn in again and again; none: each has its own"
    )
    shuffle: bool = setting(
        False, help="permute the transitions of a context at every fetch (not for a source that learns)"
    )
    train_tasks: int = setting(60, low=1, high=2**24, help="tasks with histories, at most")
    histories: int = setting(4, low=1, high=2**20, help="histories of each")
    history_steps: int | None = setting(
        None, low=2, high=2**24, help="transitions in a history; none: 1000 where episodes are short, else C"
    )
    streams: bool = setting(False, help="histories of a task are parallel streams of one learner (ppo, a2c)")
    noisy_fraction: float = setting(
        0.0, low=0.0, high=1.0, help="share of a task's histories that a uniform agent collects instead"
    )
    segment: int | None = setting(
        None, low=1, high=2**24, help="steps whose rewards make one return for a filter; none: an episode, or T / 20"
    )
    filter: str = setting(KEEP_ALL, help="registered filter of histories")
    rule: Filter = dataclasses.field(default_factory=lambda: filters[KEEP_ALL](), metadata=follows("filter", filters))
    keep_every: int = setting(1, low=1, high=2**20, help="the first of every so many segments of a history is kept")
    context_order: str = setting(
        BY_TIME,
        choices=(BY_TIME, BY_RETURN),
        help="contexts of histories: consecutive steps (time), or whole episodes of a task, the worst first (return)",
    )
    train_fraction: float = setting(
        0.9,
        low=0.0,
        high=1.0,
        open_low=True,
        help="share of the tasks of a family that numbers them; the rest is held out",
    )
    split: str = setting(
        "son-2025",
        choices=tuple(SPLITS),
        help="how tasks are shuffled before: by Python (son-2025) or NumPy (lee-2023)",
    )
    split_seed: int = setting(0, low=0, high=2**32 - 1, help="seed of that shuffle")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_following(self)
        for name in self.source:
            if name != INDEPENDENT:
                check_agent("source", name)
        if self.label not in ("", ORACLE):
            check_agent("label", self.label)

    @property
    def kind(self) -> str:
        """Contexts or histories, also where ``data`` is a folder."""
        return self.data if self.data in (CONTEXTS, HISTORIES) else _kind_of(self.folder)

    @property
    def is_foreign(self) -> bool:
        """Whether they are in a folder and were recorded elsewhere."""
        return bool(self.folder) and _is_foreign(self.folder)

    @property
    def folder(self) -> str:
        """The folder of stored data; empty if they are made."""
        return "" if self.data in (CONTEXTS, HISTORIES) else str(Path(self.data).expanduser())


@functools.lru_cache(maxsize=64)
def _kind_of(folder: str) -> str:
    known = f"{CONTEXTS}, {HISTORIES} or a folder of `icrl collect`"
    require(Path(folder).is_dir(), "data", folder, known)
    return CONTEXTS if "query" in StoredRecords(folder, verify=False).fields else HISTORIES


@functools.lru_cache(maxsize=64)
def _is_foreign(folder: str) -> bool:
    return is_foreign(StoredRecords(folder, verify=False).card)


@dataclasses.dataclass(frozen=True)
class Prediction(DynamicsSettings, TrialSettings):
    """What is predicted from what, and how transitions become tokens."""

    objective: str = setting(
        "dpt",
        help="registered objective: dpt, the optimal action; ad, the source's own; dicp, either and what comes of it; "
        "rl2, the return of a trial",
    )
    layout: str = setting("pairs", help="registered layout")
    action_head: str = setting(
        "", choices=("", *BOX_HEADS), help="of actions in a box: gaussian, squashed or mse; none: as fits"
    )
    one_hot: bool = setting(True, help="whole-numbered observations enter one-hot; false: as raw numbers")
    label_smoothing: float = setting(0.0, low=0.0, high=1.0, help="e, spread over all actions (ad, dicp)")
    mask_prob: float = setting(
        0.0, low=0.0, high=1.0, help="probability that an input token is blanked in training (ad, dicp)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        objectives.entry(self.objective)
        layouts.entry(self.layout)


@dataclasses.dataclass(frozen=True)
class PlanSettings(Checked):
    """How a model with objective dicp plans; see ``PlanningAgent``."""

    beam: int = setting(10, low=0, high=4096, help="K, paths that a plan goes on with; 0: no planning (dicp)")
    plan_horizon: int = setting(8, low=1, high=1024, help="levels of a plan, to the episode's end at most (dicp)")
    plan_samples: int | None = setting(
        None, low=1, high=4096, help="L, actions that a plan tries at each step; none: all (dicp)"
    )
    plan_after: int | None = setting(
        None, low=0, high=2**30, help="transitions of context from which on it plans; none: a full one, W (dicp)"
    )
    plan_rule: str = setting(PAPER, choices=PLAN_RULES, help="actions tried: as in the paper or its code (dicp)")
    plan_score: str = setting(
        REWARDS, choices=PLAN_SCORES, help="what plans are ranked by: rewards, or return, with what follows (dicp)"
    )


@dataclasses.dataclass(frozen=True)
class Evaluation(PlanSettings):
    """What the frozen models are evaluated on, for how long, and against whom."""

    eval_tasks: int = setting(200, low=2, high=10**7, help="held-out tasks, at most")
    rollouts_per_task: int = setting(1, low=1, high=2**20, help="rollouts in each, averaged")
    eval_steps: int | None = setting(
        None, low=1, high=2**24, help="T, steps; none: C with contexts, a history's length with histories"
    )
    context: tuple[str, ...] = setting(
        (),
        help="what decisions rest on: whole, rolling, sorted (by return), stream (all, read once), last-episode, "
        "trial (W / H episodes), or several; none: as fits",
    )
    window: int | None = setting(
        None, low=1, high=2**24, help="W, transitions that a context holds in the evaluation; none: C"
    )
    forget: int | None = setting(
        None, low=1, high=2**24, help="steps that leave a full context at once; none: an episode, or a quarter of W"
    )
    competitors: tuple[str, ...] = setting(
        ("all",), help="agents on the same draws; all: every one that fits and learns; AGENT@SETTING=VALUE"
    )
    tune: str = setting(
        NONE, choices=TUNINGS, help="settings of competitors: none, their defaults; grid, the best of a small grid each"
    )
    tune_tasks: int | None = setting(
        None, low=2, high=10**7, help="tasks behind a tuned setting, no test tasks; none: as many as are evaluated"
    )
    offline_competitors: tuple[str, ...] = setting(
        (), help="agents that choose on given contexts, for bandits; none: the exact one"
    )
    offline_tasks: int = setting(
        200, low=2, high=10**7, help="contexts behind the cross-entropy and the offline choice, for bandits"
    )
    given: tuple[str, ...] = setting(
        (), help="who makes the episodes that are given as context for another one (last-episode)"
    )
    given_contexts: int = setting(25, low=1, high=2**20, help="given episodes of each in each held-out task")

    def __post_init__(self) -> None:
        super().__post_init__()
        for rule in self.context:
            require(rule in RULES, "context", rule, " or ".join(RULES))
        require(len(set(self.context)) == len(self.context), "context", self.context, "each rule once")
        for field in ("competitors", "offline_competitors", "given"):
            for name in getattr(self, field):
                if name not in ("all", INDEPENDENT):
                    check_agent(field, name)
