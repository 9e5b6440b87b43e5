"""What the experiments of "Transformers as Decision Makers" share (Lin, Bai and Mei 2023): several data, one recipe.

A variant says what a model is pretrained on. "imitate:AGENT": lives of AGENT, predicting its own actions (algorithm
distillation). "dpt:ALPHA": lives of which a share ALPHA is the exact posterior sampler's and the rest uniform play,
predicting the optimal action (decision pretraining). Model m of a run is variant m // S with training seed m % S.
"""

import dataclasses
import time
from typing import Any, ClassVar

import jax
import numpy as np

from icrl.agents.in_context import InContextAgent
from icrl.agents.mixture import Mixture
from icrl.core.errors import InputError, require, require_float, require_int
from icrl.core.registry import agents, models
from icrl.core.settings import check_following, follows
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Environment, History, ModelConfig, Objective
from icrl.datasets.contexts import MAX_POOL, Batches, ContextGenerator, ContextSource, HeldContexts
from icrl.evaluation.statistics import Interval, paired_difference, ratio_interval
from icrl.layouts.pairs import Pairs
from icrl.models._token_policy import FrozenPolicy
from icrl.objectives.ad import AD
from icrl.objectives.dpt import DPT
from icrl.recipes.dpt_pipeline import VALIDATION_CONTEXTS, online_section, regrets_of
from icrl.recipes.pretraining import PretrainingExperiment, untrained_policy
from icrl.recipes.run import Run
from icrl.training.step import FitSettings

IMITATE, DECIDE = "imitate", "dpt"


@dataclasses.dataclass(frozen=True)
class TADMSettings:
    """All settings of such an experiment."""

    env: Environment
    variants: tuple[str, ...]  # data and objective of each model: "imitate:AGENT" or "dpt:SHARE"
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    model: str = "transformer"  # registered sequence model
    episodes: int = 1  # episodes in a context and in an evaluation
    train_seeds: int = 1  # independently pretrained models of each variant
    contexts: int | None = None  # of each model's pretraining, seen again and again; none: every batch is new
    eval_tasks: int = 2000  # held-out tasks
    competitors: tuple[str, ...] = ()  # agents compared online
    ideal: str = ""  # the competitor that is exact posterior sampling here; the better part of the mixed data

    def __post_init__(self) -> None:
        check_following(self)
        require_int("episodes", self.episodes, 1, 2**20)
        require_int("train_seeds", self.train_seeds, 1, 1000)
        require_int("eval_tasks", self.eval_tasks, 2, 10**7)
        if self.contexts is not None:
            require_int("contexts", self.contexts, 1, MAX_POOL)
        require(len(set(self.variants)) == len(self.variants) > 0, "variants", self.variants, "one or more, each once")
        require(self.ideal in ("", *self.competitors), "ideal", self.ideal, "one of competitors, or none")
        for variant in self.variants:
            kind, detail = split_variant(variant)
            if kind == DECIDE:
                require(bool(self.ideal), "ideal", self.ideal, "an agent", f"variant {variant} needs it")
            else:
                agents.entry(detail)
        for name in self.competitors:
            agents.entry(name)

    @property
    def context_steps(self) -> int:
        """T, transitions in a context and steps of an evaluation."""
        return self.episodes * self.env.spec.max_steps_in_episode

    def objective(self, variant: str = "") -> Objective:
        """The pretraining objective of a variant (of the first one, if none is named)."""
        kind, _ = split_variant(variant or self.variants[0])
        return AD(Pairs(self.env.spec)) if kind == IMITATE else DPT(Pairs(self.env.spec))

    def source(self, variant: str) -> Agent:
        """The agent whose lives are the variant's pretraining data."""
        kind, detail = split_variant(variant)
        if kind == IMITATE:
            return agents[detail].for_env(self.env)
        return Mixture.for_env(self.env, first=self.ideal, second="uniform", share=float(detail))

    def new_policy(self, seed: int, train_seed: int) -> FrozenPolicy:
        """An untrained network."""
        layout = Pairs(self.env.spec)
        return untrained_policy(self, layout, layout.num_tokens(self.context_steps), seed, train_seed)

    def agent(self, policy: FrozenPolicy) -> InContextAgent:
        """The pretrained policy as an agent of the family's environments."""
        query = self.env.reset(jax.random.key(0))[0]
        return InContextAgent(policy=policy, query=query, layout=Pairs(self.env.spec), max_steps=self.context_steps)


class TADMExperiment(PretrainingExperiment[TADMSettings]):
    """Base of the recipes; what they promise is a class attribute."""

    max_ratio: ClassVar[dict[tuple[str, str], float]] = {}  # (variant, competitor): largest ratio of their regrets
    order: ClassVar[tuple[str, ...]] = ()  # variants from the worst on, each worse than the next

    @classmethod
    def validate(cls, settings: TADMSettings, seed: int) -> None:
        """Raise ``InputError`` for an agent that does not fit the environment."""
        del seed
        for name in settings.competitors:
            agents[name].for_env(settings.env)
        for variant in settings.variants:
            settings.source(variant)

    @classmethod
    def kinds(cls, settings: TADMSettings) -> list[str]:
        return [label_of(variant) for variant in settings.variants]

    @classmethod
    def pretrain(cls, settings: TADMSettings, run: Run) -> tuple[list[FrozenPolicy], dict[str, float]]:
        """One policy per variant and training seed."""
        started = time.monotonic()
        policies = [cls._fit_model(settings, run, model) for model in range(cls.num_models(settings))]
        return policies, {"training": time.monotonic() - started}

    @classmethod
    def _fit_model(cls, settings: TADMSettings, run: Run, model: int) -> FrozenPolicy:
        index, train_seed = divmod(model, settings.train_seeds)
        variant = settings.variants[index]
        objective, size = settings.objective(variant), settings.fit.batch_size
        # the same tasks for all variants, so that only what was done in them differs
        source: ContextSource = _generator(settings, variant, run.seed, f"pretrain/{train_seed}")
        source = source if settings.contexts is None else HeldContexts.of(source, settings.contexts)
        batches = Batches(source, size, run.seed, settings.contexts)
        held_out = _generator(settings, variant, run.seed, "validation").fetch(np.arange(VALIDATION_CONTEXTS))
        if isinstance(objective, AD):
            return cls._fit(settings, run, model, Histories(batches), held_out.history, objective)
        return cls._fit(settings, run, model, batches, held_out, objective)

    @classmethod
    def evaluate(cls, settings: TADMSettings, run: Run, policies: list[FrozenPolicy]) -> dict[str, Any]:
        """Sections ``online`` and ``checks`` of the results."""
        env, steps, seeds = settings.env, settings.context_steps, settings.train_seeds
        tasks = TaskSet.draw(env, run.seed, "test", settings.eval_tasks)
        players = [settings.agent(policy) for policy in policies]
        groups = {name: players[i * seeds : (i + 1) * seeds] for i, name in enumerate(settings.variants)}
        regrets = regrets_of(env, tasks, groups, settings.competitors, steps, run.seed)
        final = {name: regret[..., -1] for name, regret in regrets.items()}
        promised = run.preset != "smoke"  # seconds of training promise nothing
        return {
            "claim": _claim(settings, final),
            "num_tasks": settings.eval_tasks,
            "num_steps": steps,
            "online": online_section(regrets, {name: label_of(name) for name in settings.variants}, settings.ideal),
            "checks": cls._checks(final) if promised else [],
        }

    @classmethod
    def _checks(cls, final: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        rows = []
        for worse, better in zip(cls.order[:-1], cls.order[1:], strict=True):
            if {worse, better} <= final.keys():
                measured = paired_difference(final[worse], final[better])
                what = f"regret of {label_of(worse)} - that of {label_of(better)}"
                rows.append(_check(what, measured, "> 0 beyond the interval", bool(measured.low > 0)))
        for (variant, name), limit in cls.max_ratio.items():
            if {variant, name} <= final.keys():
                measured = ratio_interval(final[variant], final[name][0])
                what = f"regret of {label_of(variant)} / {name}"
                rows.append(_check(what, measured, f"<= {limit:g}", bool(measured.mean <= limit)))
        return rows


@dataclasses.dataclass(frozen=True, eq=False)
class Histories:
    """The histories of contexts alone, for objectives that predict what was done in them."""

    contexts: Batches

    def __call__(self, step: int) -> History:
        """The histories of the batch at ``step``."""
        return self.contexts(step).history


def split_variant(variant: str) -> tuple[str, str]:
    """A variant's kind and detail; ``InputError`` for what is none."""
    kind, colon, detail = variant.partition(":")
    form = "imitate:AGENT or dpt:SHARE"
    require(kind in (IMITATE, DECIDE) and bool(colon and detail), "variants", variant, form)
    if kind == DECIDE:
        try:
            share = float(detail)
        except ValueError:
            raise InputError(f"variants: got {variant!r}, allowed: {form}") from None
        require_float("variants: share", share, 0.0, 1.0)
    return kind, detail


def label_of(variant: str) -> str:
    """A variant in words for readers."""
    kind, detail = split_variant(variant)
    return f"imitates {detail}" if kind == IMITATE else f"DPT, {100 * float(detail):g} % of data TS"


def _generator(settings: TADMSettings, variant: str, seed: int, purpose: str) -> ContextGenerator:
    return ContextGenerator(settings.env, settings.source(variant), settings.context_steps, seed, purpose)


def _check(what: str, measured: Interval, target: str, ok: bool) -> dict[str, Any]:
    return {"what": what, "measured": measured.band(), "target": target, "ok": ok}


def _claim(settings: TADMSettings, final: dict[str, np.ndarray]) -> str:
    lost = ", ".join(f"{label_of(name)}: {final[name].mean():.2f}" for name in settings.variants)
    best = min(settings.competitors, key=lambda name: np.inf if name == "oracle" else final[name].mean(), default="")
    other = f"; the best competitor, {best}, {final[best].mean():.2f}" if best else ""
    return f"Regret after {settings.context_steps} steps in {settings.eval_tasks} new tasks: {lost}{other}."
