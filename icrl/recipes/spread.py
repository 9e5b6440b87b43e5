"""A run in parts: which models are whose, where each part keeps its own, and what is still to be trained.

Part K of N of a run with M models has the models K - 1, K - 1 + N, K - 1 + 2 N, ... below M, so that each part has
variants of all kinds. It trains them in ``parts/K-of-N`` of the run's folder, a folder like that of a run (config,
record of metrics, checkpoints, lock) with the config of the whole run: what is trained there is of that run, and is
moved as it is. What a part has done is read off its checkpoints; nothing else says so.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from icrl.core.errors import require
from icrl.recipes.pretraining import Model
from icrl.recipes.run import Run
from icrl.storage import checkpoints
from icrl.storage.lock import CONFIG, RunLock
from icrl.storage.publish import make_folder, publish_file
from icrl.storage.run_folder import PARTS
from icrl.training.loop import saves_of

_TEXT = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,8})", re.ASCII)
_FOLDER = re.compile(r"([1-9]\d{0,8})-of-([1-9]\d{0,8})", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Part:
    """Part ``number``, from 1, of ``count``."""

    number: int
    count: int

    @classmethod
    def parsed(cls, text: str, num_models: int) -> Self:
        """What ``K/N`` means for a run with so many models.

        Raises:
          InputError: another form, K not in 1 .. N, more parts than models.
        """
        found = _TEXT.fullmatch(text)
        if found is None or int(found[1]) > int(found[2]):
            require(False, "part", text, "K/N with K in 1 .. N, for instance 2/8")
        assert found is not None
        part = cls(int(found[1]), int(found[2]))
        few = f"at most {num_models} part{'s' * (num_models > 1)}, as many as the run has models"
        require(part.count <= num_models, "part", text, few)
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def folder(self, run_folder: Path) -> Path:
        """Where it trains."""
        return run_folder / PARTS / f"{self.number}-of-{self.count}"

    def of(self, models: list[Model]) -> list[Model]:
        """Those of the ``models`` of the run that are its own."""
        return models[self.number - 1 :: self.count]

    def untrained(self, models: list[Model], run_folder: Path) -> list[Model]:
        """Those of its models that have not been trained to the end."""
        places = self.folder(run_folder), run_folder  # in this order, as a model moves from the first to the second
        return [model for model in self.of(models) if not any(is_trained(model, place) for place in places)]

    @contextlib.contextmanager
    def held(self, run: Run) -> Iterator[Path]:
        """Its folder in that of the ``run``, made if there is none, locked while the block lasts.

        The caller holds the lock of the run when this begins, and may free it inside.

        Raises:
          LockedError: another process trains this part.
        """
        place = self.folder(run.folder)
        make_folder(place)
        with RunLock(place, f"{run.experiment} part {self}"):
            if not (place / CONFIG).exists():
                publish_file(place / CONFIG, (run.folder / CONFIG).read_bytes())
            yield place


def is_trained(model: Model, folder: Path) -> bool:
    """Whether the checkpoint of the last step of ``model`` is in ``folder``."""
    return model.recipe.fit.train_steps in checkpoints.steps(saves_of(folder, model.number))


def parts_of(run_folder: Path) -> list[Part]:
    """All parts of the run in ``run_folder``; none where it is not in parts, or has been gathered."""
    try:
        names = os.listdir(run_folder / PARTS)
    except FileNotFoundError:
        return []
    counts = {int(found[2]) for found in map(_FOLDER.fullmatch, names) if found}
    return [Part(number, count) for count in sorted(counts)[:1] for number in range(1, count + 1)]
