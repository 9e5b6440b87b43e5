"""What the DPT experiments share: pretrain on contexts, freeze, compare in context, report.

An experiment is a subclass of ``DPTExperiment`` that fills in presets, published numbers and the promises to check.
"""

import abc
import dataclasses
import time
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from icrl.agents.in_context import InContextAgent
from icrl.core.errors import require, require_int
from icrl.core.registry import agents, models
from icrl.core.settings import check_following, flat, follows
from icrl.core.tasks import TaskSet
from icrl.core.types import Contexts, Environment, ModelConfig
from icrl.datasets.contexts import Batches, ContextGenerator, StoredContexts, store_contexts
from icrl.evaluation.offline import ideal_cross_entropy, model_cross_entropy, offline_suboptimality, recorded_contexts
from icrl.evaluation.online import online_regret
from icrl.evaluation.statistics import Interval, interval, ratio_interval
from icrl.layouts.query_first import QueryFirst
from icrl.models._token_policy import FrozenPolicy
from icrl.objectives.dpt import DPT
from icrl.recipes.pretraining import PretrainingExperiment, check_pairs, untrained_policy
from icrl.recipes.run import Run
from icrl.training.step import FitSettings

VALIDATION_CONTEXTS = 256
MODEL, LABEL = "dpt", "DPT (ours)"
IDEAL_LABEL = "exact posterior sampling"


@dataclasses.dataclass(frozen=True)
class DPTSettings:
    """All settings of a DPT experiment."""

    env: Environment
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    model: str = "transformer"  # registered sequence model
    source: str = "dirichlet-mix"  # agent that collects the pretraining contexts
    data: str = ""  # folder of stored contexts (icrl collect) to train on; empty: generate them on the device
    pretrain_tasks: int | None = None  # size of the pool of pretraining tasks; none: fresh tasks in every batch
    shuffle: bool = False  # permute the transitions of a context at every fetch (not for a source that learns)
    train_seeds: int = 1  # independently pretrained models
    eval_tasks: int = 2000  # held-out tasks of the online evaluation
    offline_tasks: int = 1000  # held-out contexts of the offline evaluation
    competitors: tuple[str, ...] = ()  # agents compared online
    offline_competitors: tuple[str, ...] = ()  # agents compared offline
    ideal: str = ""  # the competitor that is exact posterior sampling here

    def __post_init__(self) -> None:
        check_following(self)
        check_pairs(self)
        for name in (self.source, *self.competitors, *self.offline_competitors):
            agents.entry(name)
        require(self.ideal in self.competitors, "ideal", self.ideal, "one of competitors")
        require_int("train_seeds", self.train_seeds, 1, 1000)
        require_int("eval_tasks", self.eval_tasks, 2, 10**7)
        require_int("offline_tasks", self.offline_tasks, 2, 10**7)
        if self.pretrain_tasks is not None:
            require_int("pretrain_tasks", self.pretrain_tasks, 1, 2**31 - 1)

    @property
    def context_steps(self) -> int:
        """T, transitions in a context and steps of an evaluation."""
        return self.env.spec.max_steps_in_episode

    def objective(self) -> DPT:
        """The pretraining objective with its layout."""
        return DPT(QueryFirst(self.env.spec))

    def new_policy(self, seed: int, train_seed: int) -> FrozenPolicy:
        """An untrained network."""
        layout = QueryFirst(self.env.spec)
        return untrained_policy(self, layout, layout.num_tokens(self.context_steps), seed, train_seed)

    def agent(self, policy: FrozenPolicy) -> InContextAgent:
        """The pretrained policy as an agent of the family's environments."""
        layout = QueryFirst(self.env.spec)
        query = self.env.reset(jax.random.key(0))[0]
        return InContextAgent(policy=policy, query=query, layout=layout, max_steps=self.context_steps)


class AsInDPT(abc.ABC):
    """Base of settings of other recipes whose models are made, trained and played as ``pretraining`` says."""

    @property
    @abc.abstractmethod
    def pretraining(self) -> DPTSettings:
        """The recipe of one model."""

    def objective(self) -> DPT:
        """The pretraining objective."""
        return self.pretraining.objective()

    def new_policy(self, seed: int, train_seed: int) -> FrozenPolicy:
        """An untrained network."""
        return self.pretraining.new_policy(seed, train_seed)

    def agent(self, policy: FrozenPolicy) -> InContextAgent:
        """The pretrained policy as an agent."""
        return self.pretraining.agent(policy)


class DPTExperiment(PretrainingExperiment[DPTSettings]):
    """Base of the DPT recipes; everything that differs between them is a class attribute."""

    max_ratio: ClassVar[dict[str, float]] = {}  # competitor -> largest allowed regret(T) of DPT / its regret(T)
    max_regret: ClassVar[float | None] = None  # largest allowed regret(T) of DPT, at the preset's own T

    @classmethod
    def validate(cls, settings: DPTSettings, seed: int) -> None:
        """Raise ``InputError`` for an agent that does not fit the environment or data of something else."""
        for name in (settings.source, *settings.competitors, *settings.offline_competitors):
            agents[name].for_env(settings.env)
        if settings.data:
            StoredContexts.made_as(settings.data, _card(settings, seed))

    @classmethod
    def held_out(cls, settings: DPTSettings, run: Run) -> Contexts:
        return held_out_contexts(settings, run.seed)

    @classmethod
    def pretrain(cls, settings: DPTSettings, run: Run) -> tuple[list[FrozenPolicy], dict[str, float]]:
        """One policy per training seed."""
        started = time.monotonic()
        held_out = cls.held_out(settings, run)
        policies = [
            cls._fit(settings, run, train_seed, training_batches(settings, run.seed, train_seed), held_out)
            for train_seed in range(settings.train_seeds)
        ]
        return policies, {"training": time.monotonic() - started}

    @classmethod
    def evaluate(cls, settings: DPTSettings, run: Run, policies: list[FrozenPolicy]) -> dict[str, Any]:
        """Sections ``online``, ``offline``, ``cross_entropy`` and ``checks`` of the results."""
        tasks = TaskSet.draw(settings.env, run.seed, "test", settings.eval_tasks)
        group = {MODEL: [settings.agent(policy) for policy in policies]}
        regrets = regrets_of(settings.env, tasks, group, settings.competitors, settings.context_steps, run.seed)
        online = online_section(regrets, {MODEL: LABEL}, settings.ideal)
        offline, cross_entropy, gap = _offline(settings, run.seed, policies)
        promised = run.preset != "smoke"  # seconds of training promise nothing
        checks = [*(cls._regret_checks(settings, regrets) if promised else ()), *_leak_check(gap)]
        return {
            "claim": _claim(online, settings),
            "num_tasks": settings.eval_tasks,
            "num_steps": settings.context_steps,
            "online": online,
            "offline": offline,
            "cross_entropy": cross_entropy,
            "checks": checks,
        }

    @classmethod
    def _regret_checks(cls, settings: DPTSettings, regrets: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        steps, model = settings.context_steps, regrets[MODEL][..., -1]
        rows = []
        for name, limit in cls.max_ratio.items():
            measured = ratio_interval(model, regrets[name][0, :, -1])
            rows.append(_check(f"regret({steps}) of DPT / {name}", measured, limit))
        if cls.max_regret is not None:
            rows.append(_check(f"regret({steps}) of DPT", interval(model), cls.max_regret))
        return rows

    @classmethod
    def collect(cls, settings: DPTSettings, seed: int, folder: Path, num_tasks: int) -> None:
        """Store the first ``num_tasks`` contexts of the stream that training seed 0 would generate."""
        contexts = _generator(settings, seed, "pretrain/0", settings.backbone.sequences_per_task)
        store_contexts(folder, contexts, num_tasks, _card(settings, seed))


def training_batches(settings: DPTSettings, seed: int, train_seed: int) -> Batches:
    """Training batches, from the stored contexts if there are any, else generated as training goes."""
    pool, size, lives = settings.pretrain_tasks, settings.fit.batch_size, settings.backbone.sequences_per_task
    if not settings.data:
        contexts = _generator(settings, seed, f"pretrain/{train_seed}", lives)
        return Batches(contexts, size, seed, pool, settings.shuffle, lives)
    stored = StoredContexts.made_as(settings.data, _card(settings, seed))
    tasks = stored.num_tasks // lives
    return Batches(stored, size, seed + train_seed, min(pool or tasks, tasks), settings.shuffle, lives)


def held_out_contexts(settings: DPTSettings, seed: int) -> Contexts:
    """Contexts [256, T, ...] of tasks that no model is trained on: the validation loss."""
    return _generator(settings, seed, "validation").fetch(np.arange(VALIDATION_CONTEXTS))


def _card(settings: DPTSettings, seed: int) -> dict[str, Any]:
    """What made a stored set of contexts."""
    env = {"id": settings.env.name, **flat(settings.env)}
    card = {"env": env, "source": settings.source, "seed": seed, "num_steps": settings.context_steps}
    lives = settings.backbone.sequences_per_task
    return card if lives == 1 else {**card, "lives": lives}


def _generator(settings: DPTSettings, seed: int, purpose: str, lives: int = 1) -> ContextGenerator:
    source = agents[settings.source].for_env(settings.env)
    return ContextGenerator(settings.env, source, settings.context_steps, seed, purpose, lives)


def regrets_of(
    env: Environment, tasks: TaskSet, groups: dict[str, list[Any]], competitors: tuple[str, ...], steps: int, seed: int
) -> dict[str, np.ndarray]:
    """Cumulative regrets [S, N, T] by name of models, S training seeds each, and of registered competitors, S = 1."""
    regrets = {}
    for name, group in groups.items():
        lives = [
            online_regret(env, tasks, agent, steps, seed, train_seed, f"{name}, seed {train_seed}")
            for train_seed, agent in enumerate(group)
        ]
        regrets[name] = np.stack(lives)
    for name in competitors:
        regrets[name] = online_regret(env, tasks, agents[name].for_env(env), steps, seed, label=name)[None]
    return regrets


def online_section(regrets: dict[str, np.ndarray], labels: dict[str, str], ideal: str) -> dict[str, Any]:
    """The online section of ``regrets`` [S, N, T]; ``labels`` are the models' names for readers."""
    steps = next(iter(regrets.values())).shape[-1]
    curves = {name: curve(name, "regret", interval(x), labels, ideal) for name, x in regrets.items()}
    return {"steps": list(range(1, steps + 1)), "agents": curves}


def _offline(
    settings: DPTSettings, seed: int, policies: list[FrozenPolicy]
) -> tuple[dict[str, Any], dict[str, Any], Interval | None]:
    """The offline and cross-entropy sections, and the model's mean excess over the ideal cross-entropy."""
    env, prefixes = settings.env, _prefixes(settings.context_steps)
    tasks = TaskSet.draw(env, seed, "offline", settings.offline_tasks)
    source = agents[settings.source].for_env(env)
    contexts = recorded_contexts(env, tasks, source, settings.context_steps, seed)
    players = {name: [agents[name].for_env(env)] for name in settings.offline_competitors}
    players = {MODEL: [settings.agent(policy) for policy in policies], **players}
    curves = {}
    for name, group in players.items():
        losses = np.stack([offline_suboptimality(env, tasks, agent, contexts, seed)[:, prefixes] for agent in group])
        curves[name] = curve(name, "suboptimality", interval(losses), {MODEL: LABEL}, settings.ideal)
    offline = {"prefix": prefixes.tolist(), "agents": curves, "num_tasks": settings.offline_tasks}

    objective = settings.objective()
    entropy = np.stack([model_cross_entropy(objective, policy, contexts) for policy in policies])[..., prefixes]
    section: dict[str, Any] = {"prefix": prefixes.tolist(), "model": interval(entropy).band()}
    section |= {"ideal": None, "gap": None, "num_tasks": settings.offline_tasks}
    exact = agents[settings.ideal].for_env(env)
    if not hasattr(exact, "optimal_action_probs"):
        return offline, section, None
    ideal = ideal_cross_entropy(exact, contexts, prefixes)
    section |= {"ideal": interval(ideal[None]).band(), "gap": interval(entropy - ideal).band()}
    return offline, section, interval((entropy - ideal).mean(-1))


def _prefixes(steps: int) -> np.ndarray:
    """0, 1, 2, 3, 5, 8, ... and T: about ten prefixes a decade, [P] int."""
    return np.unique(np.concatenate([[0, steps], np.geomspace(1, steps, 24).round()]).astype(int))


def curve(name: str, field: str, measured: Interval, labels: dict[str, str], ideal: str) -> dict[str, Any]:
    """One agent's curve in a section of the results; those with ``labels`` are models."""
    kinds = {ideal: "ideal", "oracle": "oracle"} | dict.fromkeys(labels, "model")
    look = {"kind": kinds.get(name, "baseline"), "label": {ideal: IDEAL_LABEL, **labels}.get(name, name)}
    return {**look, "interval": measured.method, field: measured.band()}


def _check(what: str, measured: Interval, limit: float) -> dict[str, Any]:
    ok = bool(measured.mean <= limit)
    return {"what": what, "measured": measured.band(), "target": f"<= {limit:g}", "ok": ok}


def _leak_check(gap: Interval | None) -> list[dict[str, Any]]:
    """A model below the exact posterior's cross-entropy beyond noise sees something it must not see."""
    if gap is None:
        return []
    what = "cross-entropy above the exact posterior's, nats (below 0: a leak)"
    return [{"what": what, "measured": gap.band(), "target": ">= 0 within the interval", "ok": bool(gap.high >= 0)}]


def _claim(online: dict[str, Any], settings: DPTSettings) -> str:
    final = {name: float(np.asarray(curve["regret"]["mean"])[-1]) for name, curve in online["agents"].items()}
    return (
        f"After {settings.context_steps} pulls in {settings.eval_tasks} new tasks the pretrained {settings.model} has "
        f"lost {final[MODEL]:.2f}; exact posterior sampling on the same draws has lost {final[settings.ideal]:.2f}."
    )
