"""A recipe: which environment, pretraining data, objective, layout, model, optimisation and evaluation, as one tree.

Every part that a registry names brings its own flags, so ``--env RiverSwim-v0 --model s5 --filter lhf`` is a recipe.
``None`` and empty values mean "as fits the environment"; the properties say what that is. What does not fit together
is refused in one line, when the recipe is made or by ``check_fit``, before anything is compiled.

Letters: H steps in an episode, C steps in a training context or window, T steps of an evaluation.
"""

import dataclasses

import jax

from icrl.agents.in_context import InContextAgent
from icrl.agents.rolling_context import RollingContextAgent
from icrl.core.errors import InputError, require, require_float, require_int
from icrl.core.registry import agents, environments, filters, layouts, models, objectives
from icrl.core.settings import check_following, follows, named, replaced
from icrl.core.types import Agent, Environment, Layout, ModelConfig, Objective
from icrl.datasets.pooled import kept_steps
from icrl.envs._splits import shuffled_split
from icrl.filters._table import Filter
from icrl.models._token_policy import FrozenPolicy
from icrl.objectives.ad import AD
from icrl.objectives.dpt import DPT
from icrl.recipes.pretraining import check_pairs, untrained_policy
from icrl.recipes.variants import check_vary, grid
from icrl.training.step import FitSettings

CONTEXTS, HISTORIES = "contexts", "histories"
INDEPENDENT = "independent"  # the source of transitions from uniform states under uniform actions
RULES = ("whole", "rolling")
SHORT, LONG = 100, 200  # steps of a context by default: about SHORT of short episodes, at most LONG of a long one
HELD_OUT = 2  # a numbered family is split if so many of its tasks are held out


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """How the pretraining data come to be."""

    data: str = CONTEXTS  # contexts: made on the device as training goes; histories: collected, filtered, cut
    source: tuple[str, ...] = ()  # agents that collect, in turn; none: as fits. "independent": uniform transitions
    context_steps: int | None = None  # C, transitions in a context or window; none: as fits the episodes
    elsewhere: float = 0.0  # probability that a DPT query is a uniform state instead of the next one
    skip_episodes: int = 0  # most episodes of a source's rollout in front of a context
    pool: int | None = None  # contexts, seen again and again; none: every batch is new
    train_tasks: int = 100  # tasks with histories
    histories: int = 10  # histories of each
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
        require(self.data in (CONTEXTS, HISTORIES), "data", self.data, f"{CONTEXTS} or {HISTORIES}")
        for name in self.source:
            if name != INDEPENDENT:
                agents.entry(name)
        for field, low, high in (
            ("context_steps", 2, 2**16),
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
        require_int("keep_every", self.keep_every, 1, 2**20)


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
    offline_tasks: int = 200  # contexts behind the cross-entropy and the offline choice, for bandits

    def __post_init__(self) -> None:
        require_int("eval_tasks", self.eval_tasks, 2, 10**7)
        require_int("rollouts_per_task", self.rollouts_per_task, 1, 2**20)
        require_int("offline_tasks", self.offline_tasks, 2, 10**7)
        for field in ("eval_steps", "forget"):
            if getattr(self, field) is not None:
                require_int(field, getattr(self, field), 1, 2**24)
        require(self.context in ("", *RULES), "context", self.context, " or ".join(RULES))
        for name in self.competitors:
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
    train_seeds: int = 1  # independently trained models of each variant
    vary: tuple[str, ...] = ()  # what the variants differ in: NAME=a,b,c, several of them make a grid

    def __post_init__(self) -> None:
        check_following(self)
        check_pairs(self)
        require_int("train_seeds", self.train_seeds, 1, 1000)
        check_vary(self.vary)

    # --- what the environment decides ---

    @property
    def episode(self) -> int:
        """H."""
        return self.env.spec.max_steps_in_episode

    @property
    def context_steps(self) -> int:
        """C: as set, or whole episodes that fill SHORT steps, in bandits one episode; at most LONG steps."""
        if self.data.context_steps is not None:
            return self.data.context_steps
        short = self.episode <= SHORT and not self.env.spec.is_stationary_bandit
        return self.episode * -(-SHORT // self.episode) if short else min(self.episode, LONG)

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
        return self.context_steps if self.data.data == CONTEXTS else self.history_steps

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
        """Numbers of the training and of the held-out tasks; None for a family whose tasks are drawn from its prior."""
        count = self.env.num_tasks
        if count is None or round(self.data.train_fraction * count) > count - HELD_OUT:
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
        plain = dataclasses.replace(self, vary=())
        if not self.vary:
            return {self.prediction.objective.upper(): plain}
        return {label: replaced(plain, values) for label, values in grid(plain, self.vary).items()}


def source_agent(env: Environment, name: str, num_steps: int) -> Agent:
    """The registered agent ``name`` as a collector of ``num_steps``; an exploration that fades does so over them."""
    item = agents[name]
    fades = "anneal_steps" in item.__dataclass_fields__
    made: Agent = item.for_env(env, **({"anneal_steps": num_steps} if fades else {}))
    return made


def check_fit(recipe: Recipe) -> None:
    """Raise ``InputError``, one line that names both sides, for parts of a recipe that do not fit together."""
    _check_parts(recipe)
    for field, names in (("source", recipe.sources), ("competitors", recipe.evaluation.competitors)):
        for name in names:
            if name in (INDEPENDENT, "all"):
                continue
            try:
                agents[name].for_env(recipe.env)
            except InputError as refusal:
                raise InputError(f"{field}: {name} does not fit {recipe.env.name}: {refusal}") from refusal
    anywhere = type(recipe.env).random_state is not Environment.random_state
    hint = f"{recipe.env.name} has no uniform distribution over its states"
    require(anywhere or INDEPENDENT not in recipe.sources, "source", INDEPENDENT, "an agent", hint)
    require(anywhere or not recipe.data.elsewhere, "elsewhere", recipe.data.elsewhere, "0", hint)


def _check_parts(recipe: Recipe) -> None:
    data, prediction, env = recipe.data, recipe.prediction, recipe.env.name
    histories, plain = data.data == HISTORIES, {each.name: each.default for each in dataclasses.fields(DataSettings)}
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
    if recipe.rule == "whole":
        require_int("eval_steps", recipe.eval_steps, 1, recipe.context_steps)
    require_int("forget", recipe.forget, 1, recipe.context_steps)
    if data.streams:
        name = recipe.sources[0]
        learns = "num_streams" in agents[name].__dataclass_fields__
        require(learns, "source", name, "one that learns in parallel streams: ppo, a2c", "or set --streams false")
