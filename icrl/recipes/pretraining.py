"""What all recipes share that pretrain models, freeze them and evaluate the frozen ones.

A recipe subclasses ``PretrainingExperiment`` and says how its models are pretrained and what they are evaluated on.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from flax import nnx

from icrl.core.errors import InputError, require, require_int
from icrl.core.model_types import Layout, ModelConfig, Objective
from icrl.core.registry import models
from icrl.core.seeding import key_for
from icrl.core.settings import flat
from icrl.core.types import Agent, Environment
from icrl.evaluation.experts import routing
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.recipes.run import Run
from icrl.training.fit import fit, restore
from icrl.training.step import FitSettings


class PretrainingSettings(Protocol):
    """What the settings of such a recipe have at least."""

    @property
    def env(self) -> Environment:
        """The family of tasks."""

    @property
    def model(self) -> str:
        """The registered sequence model."""

    @property
    def backbone(self) -> ModelConfig:
        """Its settings, of its own ``Config``."""

    @property
    def fit(self) -> FitSettings:
        """How to optimise."""

    @property
    def train_seeds(self) -> int:
        """Independently trained models of each kind."""

    def objective(self) -> Objective:
        """What is predicted from what."""

    def new_policy(self, seed: int, train_seed: int) -> Policy:
        """An untrained network."""

    def agent(self, policy: Policy) -> Agent:
        """The frozen policy as an agent of the family's environments."""


AnySettings = TypeVar("AnySettings")
Settings = TypeVar("Settings", bound=PretrainingSettings)


def check_pairs(settings: PretrainingSettings) -> None:
    """Raise ``InputError`` when batches cannot be made of as many sequences of a task as the model wants."""
    together = settings.backbone.sequences_per_task
    for name in ("batch_size", "micro_batch"):
        size = getattr(settings.fit, name)
        whole = size is None or size % together == 0
        require(whole, name, size, f"a multiple of {together}: the experts' loss compares sequences of one task")


def untrained_policy(
    settings: PretrainingSettings, layout: Layout, num_tokens: int, seed: int, train_seed: int
) -> Policy:
    """A new network for ``layout`` with room for ``num_tokens``; a function of the settings and the two seeds."""
    rngs = nnx.Rngs(key_for(seed, "init", train_seed))
    backbone = models[settings.model](settings.backbone, num_tokens, rngs)
    policy = TokenPolicy(layout.token_dim, settings.env.num_actions, backbone, settings.backbone.init_std, rngs)
    return Policy.split(policy)


class Experiment(Generic[AnySettings]):
    """What every experiment can be asked; a law asks all of them. ``presets`` are smoke, cpu and paper."""

    title: ClassVar[str]
    presets: ClassVar[dict[str, Any]]
    published: ClassVar[tuple[dict[str, Any], ...]] = ()

    @classmethod
    def validate(cls, settings: AnySettings, seed: int) -> None:
        """Raise ``InputError`` for settings that do not fit together, before a folder is touched."""
        del settings, seed

    @classmethod
    def kinds(cls, settings: AnySettings) -> list[str]:
        """What the models of a run differ in but for their training seeds; model m is of kind m // train_seeds."""
        del settings
        return [cls.title]

    @classmethod
    def num_models(cls, settings: AnySettings) -> int:
        """Models that a run pretrains."""
        del settings
        return 0

    @classmethod
    def run(cls, settings: AnySettings, run: Run) -> dict[str, Any]:
        """The whole experiment, from where it stands, and the results document."""
        raise NotImplementedError(f"{cls.__name__} must define run")

    @classmethod
    def reevaluate(cls, settings: AnySettings, run: Run) -> dict[str, Any]:
        """The results document of what is pretrained already; of all, where nothing is."""
        return cls.run(settings, run)

    @classmethod
    def load_agent(cls, settings: AnySettings, run: Run, model: int) -> Agent:
        """The pretrained agent number ``model``."""
        raise InputError(f"folder: {run.experiment} pretrains no agent; use icrl.make_agent")

    @classmethod
    def collect(cls, settings: AnySettings, seed: int, folder: Path, num_tasks: int) -> None:
        """Store the pretraining data of the first ``num_tasks`` tasks in ``folder``."""
        raise InputError(f"experiment: got {cls.title!r}, allowed: one that pretrains on collected data")


class PretrainingExperiment(Experiment[Settings]):
    """Base of those that pretrain models. Model m keeps its checkpoints as seed m; its training seed is m % S."""

    @classmethod
    def pretrain(cls, settings: Settings, run: Run) -> tuple[list[Policy], dict[str, float]]:
        """Train (or restore and go on with) every model; and the seconds that each stage took."""
        raise NotImplementedError(f"{cls.__name__} must define pretrain")

    @classmethod
    def held_out(cls, settings: Settings, run: Run) -> Any:
        """A batch that no model is trained on: of the validation loss, and of the picture of the experts."""
        raise NotImplementedError(f"{cls.__name__} must define held_out")

    @classmethod
    def evaluate(cls, settings: Settings, run: Run, policies: list[Policy]) -> dict[str, Any]:
        """``claim``, ``num_tasks``, ``num_steps``, ``checks`` and the sections of the results."""
        raise NotImplementedError(f"{cls.__name__} must define evaluate")

    @classmethod
    def num_models(cls, settings: Settings) -> int:
        """Models of a run."""
        return len(cls.kinds(settings)) * settings.train_seeds

    @classmethod
    def run(cls, settings: Settings, run: Run) -> dict[str, Any]:
        """The whole recipe: pretrain, evaluate, and the results document."""
        return cls._results(settings, run, *cls.pretrain(settings, run))

    @classmethod
    def reevaluate(cls, settings: Settings, run: Run) -> dict[str, Any]:
        """The results document of the checkpoints that are there."""
        policies = [cls.restore(settings, run, model) for model in range(cls.num_models(settings))]
        return cls._results(settings, run, policies, {"training": 0.0})

    @classmethod
    def restore(cls, settings: Settings, run: Run, model: int) -> Policy:
        """The policy of ``model`` at its newest checkpoint."""
        require_int("seed", model, 0, cls.num_models(settings) - 1)
        return cls._restored(settings, run, model)

    @classmethod
    def _restored(cls, settings: Settings, run: Run, model: int) -> Policy:
        return restore(settings.fit, cls._untrained(settings, run, model), run.folder, model)

    @classmethod
    def load_agent(cls, settings: Settings, run: Run, model: int) -> Agent:
        """The pretrained agent of ``model``."""
        return settings.agent(cls.restore(settings, run, model))

    @classmethod
    def _fit(
        cls,
        settings: Settings,
        run: Run,
        model: int,
        batches: Callable[[int], Any],
        held_out: Any,
        objective: Objective | None = None,
    ) -> Policy:
        """Train (or restore and go on with) one model, on the settings' objective unless told another."""
        policy, key = cls._untrained(settings, run, model), key_for(run.seed, "objective", model % settings.train_seeds)
        objective = settings.objective() if objective is None else objective
        return fit(settings.fit, policy, objective, batches, run.folder, key=key, seed=model, held_out=held_out)

    @classmethod
    def _untrained(cls, settings: Settings, run: Run, model: int) -> Policy:
        """Models of the same training seed begin alike, whatever their data."""
        return settings.new_policy(run.seed, model % settings.train_seeds)

    @classmethod
    def _results(
        cls, settings: Settings, run: Run, policies: list[Policy], seconds: dict[str, float]
    ) -> dict[str, Any]:
        started = time.monotonic()
        found = cls.evaluate(settings, run, policies)
        if policies[0].needs_whole_batch:
            found["routing"] = routing(settings.objective(), policies[0], cls.held_out(settings, run))
        kinds = cls.kinds(settings)
        if len(kinds) > 1:
            found["training"] = run.mean_training(kinds, settings.train_seeds)
        seconds = {**seconds, "evaluation": time.monotonic() - started}
        return run.results(
            title=cls.title,
            train_seeds=list(range(settings.train_seeds)),
            env={"id": settings.env.name, **flat(settings.env)},
            published=list(cls.published),
            seconds={**seconds, "total": sum(seconds.values())},
            **found,
        )
