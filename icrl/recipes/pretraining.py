"""An experiment that is a recipe: its variants are pretrained, frozen, and compared with everybody who fits."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from icrl.core.errors import InputError, require, require_int
from icrl.core.processes import agree, dismiss
from icrl.core.registry import agents
from icrl.core.settings import flat
from icrl.core.types import Agent
from icrl.evaluation.experts import routing
from icrl.evaluation.statistics import FEW_SEEDS
from icrl.models._token_policy import Policy
from icrl.recipes import data, measure
from icrl.recipes.agent_names import base_name, is_oracle
from icrl.recipes.checks import Measured, Promise, kept
from icrl.recipes.fits import check_fit
from icrl.recipes.held_out import Groups, held_out_sections
from icrl.recipes.model_experiment import Model, ModelExperiment, trained
from icrl.recipes.parts import CONTEXTS
from icrl.recipes.preflight import check_memory, check_parts_of_others
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import Run
from icrl.recipes.tuning import tuning_table
from icrl.storage.lock import patiently
from icrl.training.learner import Learner
from icrl.training.loop import follow

DATA = "collected data"  # what the processes of a run wait for, before they train
UNPLANNED = ", no plan"  # behind the name of a model that plans, for the same model without


class RecipeExperiment(ModelExperiment[Recipe]):
    """Base of the experiments whose settings are a ``Recipe``."""

    presets: ClassVar[dict[str, Recipe]]
    promises: ClassVar[tuple[Promise, ...]] = ()  # of every preset but smoke: seconds of training promise nothing
    extra_tables: ClassVar[tuple[Callable[..., dict[str, Any]], ...]] = ()  # (recipe, run, groups, measured) to a table
    predicts: ClassVar[bool] = False  # whether it measures what a model predicts, not only how it acts

    @classmethod
    def validate(cls, settings: Recipe, seed: int) -> None:
        """Raise ``InputError`` for parts that do not fit together, in any variant."""
        variants = cls.variants(settings)
        data.point_out_namesakes({variant.data.data for variant in variants.values()})
        for label, variant in variants.items():
            require(base_name(label) not in agents, "variant", label, "a label that is no agent's name")
            reinforced = cls.predicts and variant.is_reinforced
            require(not reinforced, "objective", variant.prediction.objective, "one that predicts from data here")
            try:
                check_parts_of_others(variant)
                check_fit(variant, variants.values())
                check_memory(variant)
                data.check_stored(variant, seed)
            except InputError as refusal:
                raise InputError(f"variant {label}: {refusal}" if settings.vary else str(refusal)) from refusal

    @classmethod
    def collect(cls, settings: Recipe, seed: int, folder: Path, num_tasks: int) -> None:
        """Store the pretraining data of the first ``num_tasks`` tasks (of the first variant)."""
        require_int("num-tasks", num_tasks, 1, 2**31 - 1)
        data.collect(cls.models(settings)[0].recipe, folder, seed, num_tasks)

    @classmethod
    def load_agent(cls, settings: Recipe, run: Run, model: int) -> Agent:
        policy = cls.restore(settings, run, model)
        return cls.models(settings)[model].recipe.agent(policy)

    @classmethod
    def pretrain(cls, settings: Recipe, run: Run) -> tuple[list[Policy], dict[str, float]]:
        """Collect the histories that the variants need, and train every model, or go on with it.

        Returns:
          The policies, and the seconds that each stage took.
        """
        started, of_run = time.monotonic(), data.RunData(run.folder, run.seed)
        for variant in cls.variants(settings).values():
            if variant.data.kind != CONTEXTS:
                data.collect_histories(variant, run.folder, run.seed)
        collected = time.monotonic()
        agree(DATA)
        learner = partial(_learner, of_run=of_run, run=run)
        policies = trained(cls.models(settings), learner, cls.model_runs(settings), run)
        dismiss()
        return policies, {"collection": collected - started, "training": time.monotonic() - collected}

    @classmethod
    def follow(cls, settings: Recipe, run: Run) -> None:
        """Take part in what ``pretrain`` trains in process 0; nothing is written."""
        agree(DATA)
        of_run = data.RunData(run.folder, run.seed)
        for number, _, recipe, train_seed in cls.models(settings):
            follow(recipe.learner(run.seed, train_seed, of_run.batches(recipe, train_seed)), run.folder, number)

    @classmethod
    def pretrain_apart(cls, settings: Recipe, run: Run, numbers: Iterable[int], place: Path) -> None:
        """Train the models ``numbers``, or go on with them, in ``place``, a folder with the config of the ``run``.

        The histories are in the folder of the run: whoever comes first collects them, and others wait for it.
        """
        of_run, apart = data.RunData(run.folder, run.seed), dataclasses.replace(run, folder=place)
        models, shown = cls.models(settings), cls.model_runs(settings)
        for number in numbers:
            recipe = models[number].recipe
            if recipe.data.kind != CONTEXTS:
                patiently(partial(data.collect_histories, recipe, run.folder, run.seed), math.inf)
            trained([models[number]], partial(_learner, of_run=of_run, run=apart), shown, apart)

    @classmethod
    def sections(cls, settings: Recipe, run: Run, policies: list[Policy]) -> dict[str, Any]:
        sections = {"env": {"id": settings.env.name, **flat(settings.env)}, **cls.evaluate(settings, run, policies)}
        first, held_out = cls.models(settings)[0].recipe, data.RunData(run.folder, run.seed).held_out
        if policies[0].needs_whole_batch:
            together = 1 if first.env.is_recorded else 2
            shown = held_out(first, together=together)
            sections["routing"] = routing(first.objective(), policies[0], shown, together)
        if measure.imitator_of(first) is not None:
            own = policies[: settings.train_seeds]
            sections["cross_entropy"] = measure.imitation_section(first, own, held_out(first))
        return sections

    @classmethod
    def evaluate(cls, settings: Recipe, run: Run, policies: list[Policy]) -> dict[str, Any]:
        """All sections of the results that the environment allows."""
        groups: Groups = {}
        for model, policy in zip(cls.models(settings), policies, strict=True):
            groups.setdefault(model.label, (model.recipe, []))[1].append(policy)
        if settings.env.is_recorded:
            return held_out_sections(groups, run.folder, run.seed)
        players = _players(groups)
        models = {label: f"{label} ({_ours(settings.train_seeds)})" for label in players}
        measured, refused, choices = measure.rollouts(settings, run.seed, players, run.ledger)
        label, (variant, own) = next(iter(groups.items()))
        offline, leaks = measure.offline_sections(variant, run.seed, own, label, models.get(label, label))
        tables = [make(settings, run, groups, measured) for make in cls.extra_tables]
        given = {name: measure.given_returns(recipe, run.seed, each) for name, (recipe, each) in groups.items()}
        tables += [measure.given_table(given)] if any(given.values()) else []
        tables += measure.filter_tables({name: recipe for name, (recipe, _) in groups.items()}, run.folder, run.seed)
        tables += [tuning_table(choices)] if choices else []
        measured[next(iter(players))] |= {f"given {name}": values for name, values in given[label].items()}
        more = cls.extra_sections(settings, run, groups, measured)
        promised = [row for promise in cls.promises for row in kept(partial(promise, settings, measured))]
        return {
            "claim": _claim(settings, measured, models),
            "num_tasks": next(iter(measured.values()))["regret"].shape[1],
            "num_steps": settings.eval_steps,
            "tasks_were_seen": settings.tasks_were_seen,
            "online": measure.online_section(settings, measured, models, choices),
            "episodes": measure.episodes_section(variant, measured, models, run.folder, choices),
            "tables": [*tables, measure.table(settings, measured, models, refused)],
            **offline,
            **more,
            "checks": [*(promised if run.preset != "smoke" else ()), *leaks, *more.get("checks", ())],
        }

    @classmethod
    def extra_sections(cls, settings: Recipe, run: Run, groups: Groups, measured: Measured) -> dict[str, Any]:
        """What this experiment alone measures: sections of the results, more checks, or a claim of its own."""
        del settings, run, groups, measured
        return {}


def _learner(model: Model, of_run: data.RunData, run: Run) -> Learner:
    """What trains a model; models of the same training seed begin alike, whatever their data."""
    _, label, recipe, train_seed = model
    batches = held_out = None
    if not recipe.is_reinforced:
        written = _file_name(label) if of_run.folder == run.folder else ""  # a part writes below its own folder only
        batches, held_out = of_run.batches(recipe, train_seed, written), of_run.held_out(recipe, train_seed)
    made: Learner = recipe.learner(run.seed, train_seed, batches, held_out)
    return made


def _players(groups: Groups) -> dict[str, list[Agent]]:
    """The models as agents, S of each variant under each of its context rules; one that plans is there without, too."""
    players = {}
    for label, (recipe, own) in groups.items():
        for rule in recipe.rules:
            name = label if len(recipe.rules) == 1 else f"{label}, {rule.replace('-', ' ')}"
            players[name] = [recipe.agent(policy, rule) for policy in own]
            if recipe.plans:
                players[f"{name}{UNPLANNED}"] = [recipe.reader(policy, rule) for policy in own]
    return players


def _ours(train_seeds: int) -> str:
    """Readers are told where an interval rests on few training seeds."""
    if train_seeds >= FEW_SEEDS:
        return "ours"
    return f"ours, {train_seeds} seed{'s' if train_seeds > 1 else ''}"


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in label)


def _claim(recipe: Recipe, measured: Measured, models: dict[str, str]) -> str:
    known = recipe.env.spec.knows_optimum
    lost = {name: float(_lost(curves, known).mean()) for name, curves in measured.items()}
    oracles = {name for name in lost if name not in models and is_oracle(name)}
    others = {name: value for name, value in lost.items() if name not in {*models, *oracles}}
    best = min(others, key=lambda name: others[name]) if others else ""
    sign = 1 if known else -1
    ours = ", ".join(f"{label} {sign * lost[name]:.2f}" for name, label in models.items())
    count, tasks = recipe.env.num_tasks, next(iter(measured.values()))["regret"].shape[1]
    what = "Regret" if known else "Reward"
    return (
        f"{what} after {recipe.eval_steps:,} steps in {tasks:,} tasks of {recipe.env.name}: {ours}"
        + (f"; the best competitor, {best}, {sign * others[best]:.2f}" if best else "")
        + (f". All {count} of the family's tasks were seen in training." if recipe.tasks_were_seen else ".")
    )


def _lost(curves: dict[str, np.ndarray], known: bool) -> np.ndarray:
    """Regret at the end, [S, N]; without a known optimum the reward less than 0."""
    return curves["regret"][..., -1] if known else -curves["reward"].sum(-1)
