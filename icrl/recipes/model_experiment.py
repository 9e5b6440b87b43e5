"""An experiment that trains models: which there are, how each is restored, and who hears of their training.

Model m of a run is variant m // S with training seed m % S, S training seeds each.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from icrl.core.errors import require_int
from icrl.core.settings import flat
from icrl.models._token_policy import Policy
from icrl.recipes.experiment import Experiment
from icrl.recipes.run import OnRow, Run
from icrl.reports.tensorboard import LiveRun, ModelRun
from icrl.training.learner import Learner, Listener, Trainee
from icrl.training.loop import restore, train_together
from icrl.training.step import FitSettings


class Trainable(Protocol):
    """Settings of an experiment that trains models, a dataclass."""

    @property
    def train_seeds(self) -> int:
        """S, independently trained models of each variant."""

    @property
    def fit(self) -> FitSettings:
        """How each model is optimised."""

    def variants(self) -> dict[str, Any]:
        """Settings of each variant by label."""

    def learner(self, seed: int, train_seed: int, batches: Any = None, held_out: Any = None) -> Learner:
        """What training seed ``train_seed`` trains; without ``batches`` it can only be restored."""


AnyRecipe = TypeVar("AnyRecipe", bound=Trainable)


class Model(NamedTuple):
    """One of the models of a run."""

    number: int  # under which its checkpoints and metrics are kept
    label: str  # of its variant
    recipe: Any  # of its variant
    train_seed: int


# settings that the dashboard compares models by, besides those in which they differ
TOLD: tuple[str, ...] = (
    "batch_size",
    "context_steps",
    "env",
    "filter",
    "learning_rate",
    "model",
    "num_layers",
    "objective",
    "source",
)
TOLD += ("train_steps", "width")


class ModelExperiment(Experiment[AnyRecipe], Generic[AnyRecipe]):
    """Base of the experiments that train the variants of their settings."""

    labels: ClassVar[dict[str, str]] = {}  # what readers see of a variant, instead of the settings it changes

    @classmethod
    def learner(cls, model: Model, run: Run) -> Learner:
        """What trains a model."""
        raise NotImplementedError(f"{cls.__name__} must define learner")

    @classmethod
    def sections(cls, settings: AnyRecipe, run: Run, policies: list[Policy]) -> dict[str, Any]:
        """What is measured of the trained models, and where (``env``): parts of the results document."""
        raise NotImplementedError(f"{cls.__name__} must define sections")

    @classmethod
    def pretrain(cls, settings: AnyRecipe, run: Run) -> tuple[list[Policy], dict[str, float]]:
        """Train every model, or go on with it: the policies, and the seconds that each stage took."""
        started = time.monotonic()
        policies = trained(cls.models(settings), partial(cls.learner, run=run), cls.model_runs(settings), run)
        return policies, {"training": time.monotonic() - started}

    @classmethod
    def _results(
        cls, settings: AnyRecipe, run: Run, policies: list[Policy], seconds: dict[str, float]
    ) -> dict[str, Any]:
        """The results document of the trained models."""
        started, kinds = time.monotonic(), cls.kinds(settings)
        known = {"title": cls.title, "published": list(cls.published)}
        sections = known | cls.sections(settings, run, policies)
        if len(kinds) > 1:
            sections["training"] = run.mean_training(kinds, settings.train_seeds)
        seconds = {**seconds, "evaluation": time.monotonic() - started}
        sections["seconds"] = {**seconds, "total": sum(seconds.values())}
        return run.results(train_seeds=list(range(settings.train_seeds)), **sections)

    @classmethod
    def run(cls, settings: AnyRecipe, run: Run) -> dict[str, Any]:
        return cls._results(settings, run, *cls.pretrain(settings, run))

    @classmethod
    def reevaluate(cls, settings: AnyRecipe, run: Run) -> dict[str, Any]:
        policies = [cls.restore(settings, run, model) for model in range(cls.num_models(settings))]
        return cls._results(settings, run, policies, {"training": 0.0})

    @classmethod
    def variants(cls, settings: AnyRecipe) -> dict[str, Any]:
        """The variants by what readers call them."""
        return {cls.labels.get(label, label): recipe for label, recipe in settings.variants().items()}

    @classmethod
    def models(cls, settings: AnyRecipe) -> list[Model]:
        """The models of a run, in the order of their numbers."""
        count = settings.train_seeds
        return [
            Model(index * count + train_seed, label, recipe, train_seed)
            for index, (label, recipe) in enumerate(cls.variants(settings).items())
            for train_seed in range(count)
        ]

    @classmethod
    def kinds(cls, settings: AnyRecipe) -> list[str]:
        return list(cls.variants(settings))

    @classmethod
    def num_models(cls, settings: AnyRecipe) -> int:
        return len(cls.kinds(settings)) * settings.train_seeds

    @classmethod
    def model_runs(cls, settings: AnyRecipe) -> list[ModelRun]:
        models = cls.models(settings)
        every = [flat(model.recipe) for model in models]
        varied = {name for each in every for name, value in each.items() if value != every[0].get(name)}
        told = sorted({*TOLD, *varied})
        return [
            ModelRun(model.label, model.train_seed, {name: each[name] for name in told if name in each})
            for model, each in zip(models, every, strict=True)
        ]

    @classmethod
    def restore(cls, settings: AnyRecipe, run: Run, model: int) -> Policy:
        """The policy of ``model`` at its newest checkpoint."""
        require_int("seed", model, 0, cls.num_models(settings) - 1)
        _, _, recipe, train_seed = cls.models(settings)[model]
        return restore(recipe.learner(run.seed, train_seed), run.folder, model)


def trained(
    models: Iterable[Model], learner_of: Callable[[Model], Learner], shown: Sequence[ModelRun], run: Run
) -> list[Policy]:
    """Train ``models`` of a run, or go on with them: those of a variant as many together as its settings say.

    ``shown`` is of all models of the run, in the order of their numbers.
    """
    policies = []
    for _, of_variant in itertools.groupby(models, lambda model: model.label):
        left = list(of_variant)
        while left:
            count = left[0].recipe.fit.seeds_together
            now, left = left[:count], left[count:]
            told = [(model.number, listeners(model, shown[model.number], run)) for model in now]
            trainees = [Trainee(learner_of(model), *each) for model, each in zip(now, told, strict=True)]
            policies += train_together(trainees, run.folder)
    return policies


def listeners(model: Model, shown: ModelRun, run: Run) -> list[Listener]:
    """The dashboard, and whoever else hears of the rows of a model."""
    dashboard = LiveRun(run.dashboard, shown)
    return [dashboard] if run.on_row is None else [dashboard, RowHook(run.on_row, model)]


@dataclasses.dataclass(frozen=True)
class RowHook:
    """A callable that hears of new rows, each with the ``variant`` and the ``train_seed`` of its model."""

    on_row: OnRow
    model: Model

    def begins(self, rows: Sequence[dict[str, Any]]) -> None:
        """Nothing is new."""

    def logged(self, row: dict[str, Any]) -> None:
        """Call it."""
        self.on_row({**row, "variant": self.model.label, "train_seed": self.model.train_seed})
