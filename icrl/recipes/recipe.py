"""A recipe: which environment, pretraining data, objective, layout, model, optimisation and evaluation, as one tree.

Every part that a registry names brings its own flags, so ``--env RiverSwim-v0 --model s5 --filter lhf`` is a recipe.
``None`` and empty values mean "as fits the environment"; the properties say what that is. What does not fit together
is refused in one line, when the recipe is made or by ``check_fit``, before anything is compiled.

Letters: H steps in an episode, C steps in a training context or window, T steps of an evaluation.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from icrl.agents.in_context import InContextAgent
from icrl.agents.mixture import Mixture
from icrl.agents.rolling_context import RollingContextAgent
from icrl.core.errors import InputError, require, require_float, require_int
from icrl.core.registry import agents, environments, filters, layouts, models, objectives
from icrl.core.settings import check_following, follows, named, replaced
from icrl.core.types import Agent, Environment, Layout, ModelConfig, Objective
from icrl.datasets.pooled import kept_steps
from icrl.datasets.store import StoredRecords
from icrl.envs._splits import shuffled_split
from icrl.filters._table import Filter
from icrl.models._sizes import matched
from icrl.models._token_policy import FrozenPolicy
from icrl.objectives.ad import AD
from icrl.objectives.dpt import DPT
from icrl.recipes.pretraining import check_pairs, untrained_policy
from icrl.recipes.variants import check_vary, grid
from icrl.training.step import FitSettings

CONTEXTS, HISTORIES = "contexts", "histories"
INDEPENDENT = "independent"  # the source of transitions from uniform states under uniform actions
RULES = ("whole", "rolling")
SHORT = 100  # steps of a context by default, where episodes are shorter
TOLERANCE = 0.06  # of the parameters: some models have no setting that is finer than the width
FEW = 4  # tasks of a numbered family that is not split: its models are trained and evaluated on the same ones


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
    split_seed: int = 0  # which tasks those are

    def __post_init__(self) -> None:
        check_following(self)
        for source in self.source:
            for name in mixed(source) or (source,):
                if name != INDEPENDENT:
                    agents.entry(name)
        for field, low, high in (
            ("context_steps", 2, 2**16),
            ("most_steps", 2, 2**16),
            ("pool", 1, 2**31 - 1),
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


def mixed(source: str) -> dict[str, float]:
    """The shares of a source like "0.1*psrl+0.9*uniform" by agent, first and second; {} for one that is no mixture."""
    if "*" not in source:
        return {}
    form = "SHARE*AGENT+SHARE*AGENT, shares that sum to 1"
    parts = [part.partition("*") for part in source.split("+")]
    try:
        shares = {name.strip(): float(share) for share, _, name in parts}
    except ValueError:
        raise InputError(f"source: got {source!r}, allowed: {form}") from None
    whole = (
        len(parts) == 2 and abs(sum(shares.values()) - 1) < 1e-9 and all(0 <= share <= 1 for share in shares.values())
    )
    require(whole, "source", source, form)
    return shares


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is predicted from what, and how transitions become tokens."""

    objective: str = "dpt"  # registered objective: dpt, the optimal action; ad, the source's own
    layout: str = "pairs"  # registered layout
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
    context: str = ""  # what decisions rest on: whole (all steps), rolling (a window of C); empty: as fits T
    forget: int | None = None  # steps that leave a full window at once; none: an episode, or a quarter of C
    competitors: tuple[str, ...] = ("all",)  # agents on the same draws; all: every one that fits and learns
    offline_competitors: tuple[str, ...] = ()  # agents that choose on given contexts, for bandits; none: the exact one
    offline_tasks: int = 200  # contexts behind the cross-entropy and the offline choice, for bandits

    def __post_init__(self) -> None:
        require_int("eval_tasks", self.eval_tasks, 2, 10**7)
        require_int("rollouts_per_task", self.rollouts_per_task, 1, 2**20)
        require_int("offline_tasks", self.offline_tasks, 2, 10**7)
        for field in ("eval_steps", "forget"):
            if getattr(self, field) is not None:
                require_int(field, getattr(self, field), 1, 2**24)
        require(self.context in ("", *RULES), "context", self.context, " or ".join(RULES))
        for name in (*self.competitors, *self.offline_competitors):
            if name != "all":
                agents.entry(name)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of a pretraining experiment."""

    env: Environment = dataclasses.field(metadata=named(environments))  # registered environment
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    data: DataSettings = DataSettings()
    prediction: Prediction = Prediction()
    evaluation: Evaluation = Evaluation()
    model: str = "transformer"  # registered sequence model
    parameters: int | None = None  # of every model, embedding and head included, within 6 %; none: as its sizes say
    train_seeds: int = 1  # independently trained models of each variant
    vary: tuple[str, ...] = ()  # what the variants differ in: NAME=a,b,c, several of them make a grid

    def __post_init__(self) -> None:
        check_following(self)
        check_pairs(self)
        if self.parameters is not None:
            require_int("parameters", self.parameters, 1, 2**40)
        require_int("train_seeds", self.train_seeds, 1, 1000)
        check_vary(self.vary)

    # --- what the environment decides ---

    @property
    def episode(self) -> int:
        """H."""
        return self.env.spec.max_steps_in_episode

    @property
    def context_steps(self) -> int:
        """C: as set, or whole episodes that fill SHORT steps, in bandits one episode; of a long one ``most_steps``."""
        if self.data.context_steps is not None:
            return self.data.context_steps
        short = self.episode <= SHORT and not self.env.spec.is_stationary_bandit
        if short:
            return self.episode * -(-SHORT // self.episode)
        return min(self.episode, self.data.most_steps or self.episode)

    @property
    def history_steps(self) -> int:
        """Transitions in a history."""
        if self.data.history_steps is not None:
            return self.data.history_steps
        short = self.episode <= SHORT and not self.env.spec.is_stationary_bandit
        return max(self.context_steps, 1000 // self.episode * self.episode) if short else self.context_steps

    @property
    def kept_steps(self) -> int:
        """Transitions of a history that training sees."""
        return len(kept_steps(self.history_steps, self.segment, self.data.keep_every))

    @property
    def segment(self) -> int:
        """Steps behind one return that a filter sees."""
        if self.data.segment is not None:
            return self.data.segment
        return self.episode if 2 * self.episode <= self.history_steps else max(1, self.history_steps // 20)

    @property
    def eval_steps(self) -> int:
        """T."""
        if self.evaluation.eval_steps is not None:
            return self.evaluation.eval_steps
        return self.context_steps if self.data.kind == CONTEXTS else self.history_steps

    @property
    def num_episodes(self) -> int:
        """Whole episodes in an evaluation."""
        return self.eval_steps // self.episode

    @property
    def rule(self) -> str:
        """What decisions rest on."""
        return self.evaluation.context or ("whole" if self.eval_steps <= self.context_steps else "rolling")

    @property
    def forget(self) -> int:
        """Transitions that leave a full window."""
        if self.evaluation.forget is not None:
            return self.evaluation.forget
        episodes = self.context_steps > self.episode and self.context_steps % self.episode == 0
        return self.episode if episodes else max(1, self.context_steps // 4)

    @property
    def sources(self) -> tuple[str, ...]:
        """The agents that collect the data."""
        if self.data.source:
            return self.data.source
        bandit = self.env.spec.num_states is None
        if self.prediction.objective == "dpt":
            return ("dirichlet-mix",) if self.env.spec.is_stationary_bandit else ("uniform", "annealed-oracle")
        return ("ucb1",) if self.env.spec.is_stationary_bandit else ("linucb-disjoint",) if bandit else ("q-learning",)

    @property
    def task_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Numbers of the training and of the held-out tasks; None where tasks are drawn from the prior."""
        count = self.env.num_tasks
        if count is None or count < FEW or self.env.spec.is_stationary_bandit:
            return None
        return shuffled_split(count, self.data.train_fraction, self.data.split_seed)

    # --- what is made of the parts ---

    @property
    def layout(self) -> Layout:
        """The layout for this environment."""
        made: Layout = layouts[self.prediction.layout](self.env.spec)
        return made

    def objective(self) -> Objective:
        """The objective with its layout."""
        if self.prediction.objective == "ad":
            return AD(self.layout, self.prediction.label_smoothing, self.prediction.mask_prob)
        if self.prediction.objective == "dpt":
            return DPT(self.layout)
        made: Objective = objectives[self.prediction.objective](self.layout)
        return made

    def new_policy(self, seed: int, train_seed: int) -> FrozenPolicy:
        """An untrained network."""
        layout = self.layout
        return untrained_policy(self, layout, layout.num_tokens(self.context_steps), seed, train_seed)

    def agent(self, policy: FrozenPolicy) -> Agent:
        """The pretrained policy as an agent of the family's environments."""
        query = self.env.reset(jax.random.key(0))[0]
        parts = {"policy": policy, "query": query, "layout": self.layout, "max_steps": self.context_steps}
        if self.rule == "whole":
            return InContextAgent(**parts)
        return RollingContextAgent(**parts, forget=self.forget)

    def variants(self) -> dict[str, "Recipe"]:
        """The recipes that ``vary`` makes of this one, by label; only itself, called by its objective, if it is empty.

        Raises:
          InputError: an unknown setting, or a value that it cannot have.
        """
        return dict(_variants(self))


@functools.lru_cache(maxsize=64)  # matching sizes traces each model many times
def _variants(recipe: Recipe) -> tuple[tuple[str, Recipe], ...]:
    plain = dataclasses.replace(recipe, vary=())
    if not recipe.vary:
        return ((recipe.prediction.objective.upper(), _of_size(plain)),)
    made = grid(plain, recipe.vary)
    return tuple((label, _of_size(replaced(plain, values))) for label, values in made.items())


def _of_size(recipe: Recipe) -> Recipe:
    """The recipe with a model of as many parameters as it asks for."""
    if recipe.parameters is None:
        return recipe
    layout, actions = recipe.layout, recipe.env.num_actions
    outside = layout.token_dim + 1 + actions  # parameters of embedding and head for each feature
    tokens, wanted = layout.num_tokens(recipe.context_steps), recipe.parameters - actions
    backbone = matched(recipe.model, wanted, recipe.backbone, tokens, outside, TOLERANCE)
    return dataclasses.replace(recipe, backbone=backbone)


class ByRecipe(abc.ABC):
    """Base of settings of other experiments whose models are made, trained and played as ``pretraining`` says."""

    @property
    @abc.abstractmethod
    def pretraining(self) -> Recipe:
        """The recipe of one model."""

    def objective(self) -> Objective:
        """The pretraining objective."""
        return self.pretraining.objective()

    def new_policy(self, seed: int, train_seed: int) -> FrozenPolicy:
        """An untrained network."""
        return self.pretraining.new_policy(seed, train_seed)

    def agent(self, policy: FrozenPolicy) -> Agent:
        """The pretrained policy as an agent."""
        return self.pretraining.agent(policy)


def source_agent(env: Environment, name: str, num_steps: int | None = None) -> Agent:
    """The registered agent ``name`` (or a mixture of two) as a collector.

    With ``num_steps`` an exploration that fades does so over as many steps, else over as many as is its own default.
    """
    if shares := mixed(name):
        (first, share), (second, _) = shares.items()
        return Mixture.for_env(env, first=first, second=second, share=share)
    item = agents[name]
    fades = num_steps is not None and "anneal_steps" in item.__dataclass_fields__
    made: Agent = item.for_env(env, **({"anneal_steps": num_steps} if fades else {}))
    return made


def check_fit(recipe: Recipe) -> None:
    """Raise ``InputError``, one line that names both sides, for parts of a recipe that do not fit together."""
    _check_parts(recipe)
    for field, names in (
        ("source", recipe.sources),
        ("competitors", recipe.evaluation.competitors),
        ("offline_competitors", recipe.evaluation.offline_competitors),
    ):
        for name in names:
            if name in (INDEPENDENT, "all"):
                continue
            try:
                source_agent(recipe.env, name, recipe.context_steps)
            except InputError as refusal:
                raise InputError(f"{field}: {name} does not fit {recipe.env.name}: {refusal}") from refusal
    anywhere = type(recipe.env).random_state is not Environment.random_state
    hint = f"{recipe.env.name} has no uniform distribution over its states"
    require(anywhere or INDEPENDENT not in recipe.sources, "source", INDEPENDENT, "an agent", hint)
    require(anywhere or not recipe.data.elsewhere, "elsewhere", recipe.data.elsewhere, "0", hint)


def _check_parts(recipe: Recipe) -> None:
    data, prediction, env = recipe.data, recipe.prediction, recipe.env.name
    histories, plain = data.kind == HISTORIES, {each.name: each.default for each in dataclasses.fields(DataSettings)}
    if histories:
        hint = "stored histories hold no optimal actions; use --data contexts"
        require(prediction.objective != "dpt", "objective", "dpt", "ad with data histories", hint)
        require(len(recipe.sources) == 1, "source", ",".join(recipe.sources), "one agent with data histories")
        require(INDEPENDENT not in recipe.sources, "source", INDEPENDENT, "an agent with data histories")
        require_int("context_steps", recipe.context_steps, 2, recipe.kept_steps)
        require_int("segment", recipe.segment, 1, recipe.history_steps)
    for field in ("filter", "noisy_fraction", "keep_every", "streams"):
        value, default = getattr(data, field), plain[field]
        require(histories or value == default, field, value, f"{default} with data contexts", "use --data histories")
    for field in ("label_smoothing", "mask_prob"):
        value = getattr(prediction, field)
        require(prediction.objective == "ad" or value == 0.0, field, value, "0 with objective dpt")
    if recipe.layout.num_before == 0:
        bandit = recipe.env.spec.is_stationary_bandit and prediction.objective == "dpt" and recipe.rule == "whole"
        others = " or ".join(name for name in layouts if layouts[name](recipe.env.spec).num_before)
        hint = f"it asks one query a context, {prediction.objective} in {env} asks one at every step"
        require(bandit, "layout", prediction.layout, others, hint)
    if recipe.task_ids is not None:
        held_out = len(recipe.task_ids[1])
        require(held_out >= 2, "train_fraction", data.train_fraction, "a fraction that holds out at least two tasks")
    if recipe.rule == "whole":
        require_int("eval_steps", recipe.eval_steps, 1, recipe.context_steps)
    require_int("forget", recipe.forget, 1, recipe.context_steps)
    if data.streams:
        name = recipe.sources[0]
        learns = "num_streams" in agents[name].__dataclass_fields__
        require(learns, "source", name, "one that learns in parallel streams: ppo, a2c", "or set --streams false")


def sizes(base: Recipe, **presets: Mapping[str, Any]) -> dict[str, Recipe]:
    """The presets of an experiment: each says what differs from ``base``, by the names of the flags."""
    return {name: replaced(base, dict(changes)) for name, changes in presets.items()}


SMOKE: dict[str, Any] = {  # a preset of seconds: what all experiments make small
    "width": 16, "num_layers": 1, "num_heads": 1, "init_std": 0.2, "train_steps": 20, "batch_size": 16,
    "learning_rate": 3e-3, "warmup_steps": 5, "log_every": 10, "save_every": 20, "positions": "learned",
}  # fmt: skip
LEE_2023: dict[str, Any] = {  # transformer and optimiser of the DPT paper
    "width": 32, "num_layers": 4, "num_heads": 4, "init_std": 0.02, "positions": "learned",
    "batch_size": 64, "learning_rate": 1e-4, "schedule": "constant", "warmup_steps": 0,
    "train_seeds": 5, "eval_tasks": 4000,
}  # fmt: skip
LIN_2023: dict[str, Any] = {  # of TaDM: 2 000 epochs of 80 000 contexts
    "width": 32, "num_layers": 8, "num_heads": 4, "init_std": 0.02, "positions": "learned", "attention": "relu",
    "norm_first": False, "final_norm": False, "train_steps": 1_250_000, "batch_size": 128, "learning_rate": 1e-3,
    "schedule": "constant", "warmup_steps": 0, "log_every": 1000, "save_every": 20_000, "train_seeds": 5,
    "eval_tasks": 4000,
}  # fmt: skip
SON_2025: dict[str, Any] = {  # of AD on grids (also Chen et al. 2025); not theirs: the initial weights, and no dropout
    "width": 32, "num_layers": 4, "num_heads": 4, "init_std": 0.02, "norm": "rms", "positions": "rotary",
    "mlp": "swiglu", "final_norm": False, "train_steps": 50_000, "batch_size": 512, "learning_rate": 1e-2,
    "warmup_steps": 0, "weight_decay": 0.01, "log_every": 500, "save_every": 5000, "train_seeds": 5,
}  # fmt: skip
