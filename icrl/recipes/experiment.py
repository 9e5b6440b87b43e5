"""An experiment that is a recipe: its variants are pretrained, frozen, and compared with everybody who fits.

Model m of a run is variant m // S with training seed m % S, S training seeds each.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from icrl.core.errors import InputError, require, require_int
from icrl.core.registry import agents
from icrl.core.types import Agent
from icrl.models._token_policy import Policy
from icrl.recipes import data, measure
from icrl.recipes.agent_names import base_name, is_oracle
from icrl.recipes.checks import Measured, Promise
from icrl.recipes.fits import check_fit
from icrl.recipes.parts import CONTEXTS
from icrl.recipes.pretraining import PretrainingExperiment
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import Run


class Model(NamedTuple):
    """One of the models of a run."""

    number: int  # under which its checkpoints and metrics are kept
    label: str  # of its variant
    recipe: Recipe  # of its variant
    train_seed: int


Groups = dict[str, tuple[Recipe, list[Policy]]]  # by label of a variant: its recipe, and a policy for each seed


class RecipeExperiment(PretrainingExperiment[Recipe]):
    """Base of the experiments whose settings are a ``Recipe``."""

    presets: ClassVar[dict[str, Recipe]]
    promises: ClassVar[tuple[Promise, ...]] = ()  # of every preset but smoke: seconds of training promise nothing
    extra_tables: ClassVar[tuple[Callable[..., dict[str, Any]], ...]] = ()  # (recipe, run, groups, measured) to a table
    labels: ClassVar[dict[str, str]] = {}  # what readers see of a variant, instead of the settings it changes

    @classmethod
    def variants(cls, settings: Recipe) -> dict[str, Recipe]:
        """The variants by what readers call them."""
        return {cls.labels.get(label, label): recipe for label, recipe in settings.variants().items()}

    @classmethod
    def models(cls, settings: Recipe) -> list[Model]:
        """The models of a run, in the order of their numbers."""
        count = settings.train_seeds
        return [
            Model(index * count + train_seed, label, recipe, train_seed)
            for index, (label, recipe) in enumerate(cls.variants(settings).items())
            for train_seed in range(count)
        ]

    @classmethod
    def validate(cls, settings: Recipe, seed: int) -> None:
        """Raise ``InputError`` for parts that do not fit together, in any variant."""
        for label, variant in cls.variants(settings).items():
            require(base_name(label) not in agents, "variant", label, "a label that is no agent's name")
            try:
                check_fit(variant)
                data.check_stored(variant, seed)
            except InputError as refusal:
                raise InputError(f"variant {label}: {refusal}" if settings.vary else str(refusal)) from refusal

    @classmethod
    def kinds(cls, settings: Recipe) -> list[str]:
        return list(cls.variants(settings))

    @classmethod
    def collect(cls, settings: Recipe, seed: int, folder: Path, num_tasks: int) -> None:
        """Store the pretraining data of the first ``num_tasks`` tasks (of the first variant)."""
        require_int("num-tasks", num_tasks, 1, 2**31 - 1)
        data.collect(cls.models(settings)[0].recipe, folder, seed, num_tasks)

    @classmethod
    def held_out(cls, settings: Recipe, run: Run) -> Any:
        return data.RunData(run.folder, run.seed).held_out(cls.models(settings)[0].recipe)

    @classmethod
    def pretrain(cls, settings: Recipe, run: Run) -> tuple[list[Policy], dict[str, float]]:
        """Collect the histories that the variants need, and train every model."""
        started, policies, of_run = time.monotonic(), [], data.RunData(run.folder, run.seed)
        for variant in cls.variants(settings).values():
            if variant.data.kind != CONTEXTS:
                data.collect_histories(variant, run.folder, run.seed)
        collected = time.monotonic()
        for model in cls.models(settings):
            batches = of_run.batches(model.recipe, model.train_seed, _file_name(model.label))
            held_out = of_run.held_out(model.recipe, model.train_seed)
            policies.append(cls._fit(model.recipe, run, model.number, batches, held_out))
        return policies, {"collection": collected - started, "training": time.monotonic() - collected}

    @classmethod
    def restore(cls, settings: Recipe, run: Run, model: int) -> Policy:
        """The policy of ``model`` at its newest checkpoint."""
        require_int("seed", model, 0, cls.num_models(settings) - 1)
        return cls._restored(cls.models(settings)[model].recipe, run, model)

    @classmethod
    def load_agent(cls, settings: Recipe, run: Run, model: int) -> Agent:
        """The pretrained agent of ``model``."""
        policy = cls.restore(settings, run, model)
        return cls.models(settings)[model].recipe.agent(policy)

    @classmethod
    def evaluate(cls, settings: Recipe, run: Run, policies: list[Policy]) -> dict[str, Any]:
        """All sections of the results that the environment allows."""
        groups: Groups = {}
        for model, policy in zip(cls.models(settings), policies, strict=True):
            groups.setdefault(model.label, (model.recipe, []))[1].append(policy)
        players = _players(groups)
        models = {label: f"{label} (ours)" for label in players}
        measured, refused = measure.rollouts(settings, run.seed, players)
        label, (variant, own) = next(iter(groups.items()))
        offline, leaks = measure.offline_sections(variant, run.seed, own, label, models.get(label, label))
        tables = [make(settings, run, groups, measured) for make in cls.extra_tables]
        if given := {name: measure.given_returns(recipe, run.seed, each) for name, (recipe, each) in groups.items()}:
            tables += [measure.given_table(given)] if any(given.values()) else []
            measured[next(iter(players))] |= {f"given {name}": values for name, values in given[label].items()}
        promised = [row for promise in cls.promises for row in promise(settings, measured)]
        return {
            "claim": _claim(settings, measured, models),
            "num_tasks": next(iter(measured.values()))["regret"].shape[1],
            "num_steps": settings.eval_steps,
            "tasks_were_seen": settings.tasks_were_seen,
            "online": measure.online_section(settings, measured, models),
            "episodes": measure.episodes_section(variant, measured, models, run.folder),
            "tables": [*tables, measure.table(settings, measured, models, refused)],
            "checks": [*(promised if run.preset != "smoke" else ()), *leaks],
            **offline,
            **cls.extra_sections(settings, run, groups, measured),
        }

    @classmethod
    def extra_sections(cls, settings: Recipe, run: Run, groups: Groups, measured: Measured) -> dict[str, Any]:
        """Sections of the results that this experiment alone has; they replace those of the same name."""
        del settings, run, groups, measured
        return {}


def _players(groups: Groups) -> dict[str, list[Agent]]:
    """The models as agents, S of each variant under each of its context rules."""
    players = {}
    for label, (recipe, own) in groups.items():
        for rule in recipe.rules:
            name = label if len(recipe.rules) == 1 else f"{label}, {rule.replace('-', ' ')}"
            players[name] = [recipe.agent(policy, rule) for policy in own]
    return players


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in label)


def _claim(recipe: Recipe, measured: Measured, models: dict[str, str]) -> str:
    lost = {name: float(curves["regret"][..., -1].mean()) for name, curves in measured.items()}
    oracles = {name for name in lost if name not in models and is_oracle(name)}
    others = {name: value for name, value in lost.items() if name not in {*models, *oracles}}
    best = min(others, key=lambda name: others[name]) if others else ""
    ours = ", ".join(f"{label} {lost[name]:.2f}" for name, label in models.items())
    count = recipe.env.num_tasks
    return (
        f"Regret after {recipe.eval_steps:,} steps in {recipe.env.name}: {ours}"
        + (f"; the best competitor, {best}, {others[best]:.2f}" if best else "")
        + (f". All {count} of the family's tasks were seen in training." if recipe.tasks_were_seen else ".")
    )
