"""An experiment that is a recipe: its variants are pretrained, frozen, and compared with everybody who fits.

Model m of a run is variant m // S with training seed m % S, S training seeds each.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from icrl.core.errors import InputError, require_int
from icrl.core.registry import agents
from icrl.core.types import Agent
from icrl.models._token_policy import FrozenPolicy
from icrl.recipes import data, measure
from icrl.recipes.pretraining import PretrainingExperiment
from icrl.recipes.recipe import CONTEXTS, Recipe, check_fit
from icrl.recipes.run import Run


class Model(NamedTuple):
    """One of the models of a run."""

    number: int  # under which its checkpoints and metrics are kept
    label: str  # of its variant
    recipe: Recipe  # of its variant
    train_seed: int


def models_of(recipe: Recipe) -> Iterator[Model]:
    """The models of a run, in the order of their numbers."""
    for index, (label, variant) in enumerate(recipe.variants().items()):
        for train_seed in range(recipe.train_seeds):
            yield Model(index * recipe.train_seeds + train_seed, label, variant, train_seed)


class RecipeExperiment(PretrainingExperiment[Recipe]):
    """Base of the experiments whose settings are a ``Recipe``."""

    presets: ClassVar[dict[str, Recipe]]

    @classmethod
    def validate(cls, settings: Recipe, seed: int) -> None:
        """Raise ``InputError`` for parts that do not fit together, in any variant."""
        del seed
        for label, variant in settings.variants().items():
            try:
                check_fit(variant)
            except InputError as refusal:
                raise InputError(f"variant {label}: {refusal}" if settings.vary else str(refusal)) from refusal

    @classmethod
    def kinds(cls, settings: Recipe) -> list[str]:
        return list(settings.variants())

    @classmethod
    def collect(cls, settings: Recipe, seed: int, folder: Path, num_tasks: int) -> None:
        """Store the pretraining data of the first ``num_tasks`` tasks (of the first variant)."""
        require_int("num-tasks", num_tasks, 1, 2**31 - 1)
        data.collect(next(iter(settings.variants().values())), folder, seed, num_tasks)

    @classmethod
    def held_out(cls, settings: Recipe, run: Run) -> Any:
        return data.held_out(next(iter(settings.variants().values())), run.folder, run.seed)

    @classmethod
    def pretrain(cls, settings: Recipe, run: Run) -> tuple[list[FrozenPolicy], dict[str, float]]:
        """Collect the histories that the variants need, and train every model."""
        started, policies = time.monotonic(), []
        for variant in settings.variants().values():
            if variant.data.data != CONTEXTS:
                data.collect_histories(variant, run.folder, run.seed)
        collected = time.monotonic()
        for model in models_of(settings):
            batches = data.batches(model.recipe, run.folder, run.seed, model.train_seed, _file_name(model.label))
            held_out = data.held_out(model.recipe, run.folder, run.seed)
            policies.append(cls._fit(model.recipe, run, model.number, batches, held_out))
        return policies, {"collection": collected - started, "training": time.monotonic() - collected}

    @classmethod
    def restore(cls, settings: Recipe, run: Run, model: int) -> FrozenPolicy:
        """The policy of ``model`` at its newest checkpoint."""
        require_int("seed", model, 0, cls.num_models(settings) - 1)
        found = list(models_of(settings))[model]
        return cls._restored(found.recipe, run, model)

    @classmethod
    def load_agent(cls, settings: Recipe, run: Run, model: int) -> Agent:
        """The pretrained agent of ``model``."""
        policy = cls.restore(settings, run, model)
        return list(models_of(settings))[model].recipe.agent(policy)

    @classmethod
    def evaluate(cls, settings: Recipe, run: Run, policies: list[FrozenPolicy]) -> dict[str, Any]:
        """All sections of the results that the environment allows."""
        groups: dict[str, list[Agent]] = {}
        for model, policy in zip(models_of(settings), policies, strict=True):
            groups.setdefault(model.label, []).append(model.recipe.agent(policy))
        models = {label: f"{label} (ours)" for label in groups}
        measured, refused = measure.rollouts(settings, run.seed, groups)
        first = next(iter(settings.variants().values()))
        offline = measure.offline_sections(first, run.seed, policies[: settings.train_seeds], next(iter(groups)))
        return {
            "claim": _claim(settings, measured, list(groups)),
            "num_tasks": next(iter(measured.values()))["regret"].shape[1],
            "num_steps": settings.eval_steps,
            "online": measure.online_section(settings, measured, models),
            "episodes": measure.episodes_section(settings, measured, models),
            "tables": [measure.table(settings, measured, refused)],
            "checks": [],
            **offline,
        }


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in label)


def _claim(recipe: Recipe, measured: measure.Measured, labels: list[str]) -> str:
    lost = {name: float(curves["regret"][..., -1].mean()) for name, curves in measured.items()}
    oracles = {name for name in lost if name in agents and agents[name].sees_env_state}
    others = {name: value for name, value in lost.items() if name not in {*labels, *oracles}}
    best = min(others, key=lambda name: others[name]) if others else ""
    ours = ", ".join(f"{label} {lost[label]:.2f}" for label in labels)
    same = recipe.env.num_tasks == 1
    return (
        f"Regret after {recipe.eval_steps:,} steps in {recipe.env.name}: {ours}"
        + (f"; the best competitor, {best}, {others[best]:.2f}" if best else "")
        + (". The family has one task, which the models were trained on." if same else ".")
    )
