"""What every experiment can be asked, whatever it does: the interface behind the commands of ``icrl``."""

from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from icrl.core.errors import InputError
from icrl.core.types import Agent
from icrl.recipes.run import Run
from icrl.reports.tensorboard import ModelRun

AnySettings = TypeVar("AnySettings")


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
    def model_runs(cls, settings: AnySettings) -> list[ModelRun]:
        """The models of a run as the dashboard shows them, in the order of their numbers."""
        del settings
        return []

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
