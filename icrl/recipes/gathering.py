"""``icrl run --part K/N``: a part of the models of a run is trained, and who finds all parts done ends the run.

Processes meet in the folder of the run, and nowhere else. Each holds the lock of its own part while it trains. Who
finds all models trained takes the lock of the run and those of all parts, moves rows and checkpoints to where a run
that is not in parts has them, removes ``parts``, and goes on as ``icrl run --resume`` does on a run that is trained but
not evaluated. A kill at any moment leaves a folder from which any part goes on: what was moved is found in its new
place, what was not in its old one.

A lock of a part is only waited for by who holds that of the run, and never the other way round.
"""

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import Any

from icrl.core.console import stdout_may_fail
from icrl.core.errors import IncompleteError, InputError, LockedError, require
from icrl.core.registry import experiments
from icrl.datasets import verify as files
from icrl.datasets.verify import METRICS
from icrl.recipes.pretraining import Model, RecipeExperiment
from icrl.recipes.run import RESULTS, Run, execute, reopen, settings_of, start
from icrl.recipes.spread import Part, is_trained, parts_of
from icrl.reports.schema import Results
from icrl.storage.lock import CONFIG, RunLock, patiently
from icrl.storage.metrics_log import TRAINING, publish_jsonl, read_jsonl
from icrl.storage.paths import explained, show, sync
from icrl.storage.publish import make_folder, remove_tree, temporary_name
from icrl.storage.run_folder import PARTS
from icrl.training.loop import saves_of


def run_part(
    experiment: str, preset: str, seed: int, values: dict[str, Any], out: Path, part: str, large: bool = False
) -> Results | None:
    """Train part ``K/N`` of the models of a run in the shared folder ``out``, or go on with it.

    Returns:
      The results if it was the last part, or if the run was finished already; None while parts are missing, or while
      another process writes the report.

    Raises:
      InputError: as ``start``; an experiment that is no recipe, more parts than models, a folder begun otherwise.
      LockedError: another process trains this part.
    """
    settings, kind = settings_of(experiment, preset, values), experiments[experiment]
    require(issubclass(kind, RecipeExperiment), "part", part, f"none: {experiment} is not a recipe, whose models train")
    own = Part.parsed(part, kind.num_models(settings))
    models = kind.models(settings)
    together = max(model.recipe.fit.seeds_together for model in models)
    require(together == 1, "seeds_together", together, "1 with --part, which shares out single models")
    try:
        run = _opened(partial(start, experiment, preset, seed, values, out, True, large, None, True), out)
    except LockedError as busy:
        if not all(is_trained(model, out) for model in models):
            raise
        _tell(out, f"the report is being written: {busy}")
        return None
    with contextlib.ExitStack() as held:
        with _run_lock(run, f"opening part {own}"):
            place = held.enter_context(own.held(run)) if _is_in_parts(run, own, models) else None
        if place is not None and (todo := own.untrained(models, run.folder)):
            kind.pretrain_apart(settings, run, [model.number for model in todo], place)
    return _finished(run, models)


def verify(path: Path) -> str:
    """``datasets.verify.verify``, which of a run in parts also tells which are missing.

    Raises:
      InputError, DamagedError: as there. IncompleteError: as there, or parts are missing.
    """
    try:
        return files.verify(path)
    except IncompleteError as error:
        if not (path / CONFIG).is_file() or not parts_of(path):
            raise
        run = reopen(path)
        said = _missing(run, experiments[run.experiment].models(run.settings)) or "all is trained, any part goes on"
        raise IncompleteError(f"{show(path)}: {said}; {error}") from error


def gather(run: Run, models: list[Model]) -> None:
    """Move what the parts have trained to where a run keeps it, if that has not been done.

    Raises:
      LockedError: another process holds the run or, for longer than it takes to end, a part.
    """
    with RunLock(run.folder, f"{run.experiment} gathering"):
        parts = parts_of(run.folder)
        if not parts:
            return
        with contextlib.ExitStack() as held:
            for part in parts:
                patiently(partial(held.enter_context, RunLock(part.folder(run.folder), "gathering")))
            _move(run.folder, parts, models)
            gone = temporary_name(run.folder)
            with explained(run.folder / PARTS):
                os.rename(run.folder / PARTS, gone)
                sync(run.folder)
        with explained(gone):  # behind the locks: some network file systems keep files that are open
            remove_tree(gone)


def _move(run_folder: Path, parts: list[Part], models: list[Model]) -> None:
    """Write the record of all models in their order, then move their checkpoints."""
    rows = {part: read_jsonl(part.folder(run_folder) / METRICS, TRAINING) for part in parts}
    whose = {model.number: part for part in parts for model in part.of(models)}
    ordered = [row for model in models for row in rows[whose[model.number]] if row["seed"] == model.number]
    publish_jsonl(run_folder / METRICS, ordered)
    for model in models:
        old, new = (saves_of(place, model.number) for place in (whose[model.number].folder(run_folder), run_folder))
        make_folder(new.parent)
        if old.is_dir():
            with explained(new):
                os.rename(old, new)
                sync(new.parent)
                sync(old.parent)


def _opened(begin: partial[Run], out: Path) -> Run:
    """The run, begun by whichever part comes first; the others wait for it."""
    known = (out / CONFIG).exists()
    try:
        return patiently(begin)
    except InputError:
        if known or not (out / CONFIG).exists():
            raise
    return patiently(begin)  # another part has begun it meanwhile


def _run_lock(run: Run, why: str) -> contextlib.ExitStack:
    held = contextlib.ExitStack()
    patiently(lambda: held.enter_context(RunLock(run.folder, f"{run.experiment} {why}")))
    return held


def _is_in_parts(run: Run, own: Part, models: list[Model]) -> bool:
    """Whether the run, whose lock is held, is or begins to be in as many parts as ``own`` says; False when trained."""
    if parts := parts_of(run.folder):
        allowed = f"K/{len(parts)}, as {show(run.folder)} was begun in so many parts"
        require(own.count == len(parts), "part", str(own), allowed)
        return True
    if (run.folder / RESULTS).exists() or all(is_trained(model, run.folder) for model in models):
        return False
    begun = any((run.folder / name).exists() for name in (METRICS, "checkpoints"))
    hint = "go on with --resume"
    require(not begun, "part", str(own), f"none: {show(run.folder)} holds a run that is not in parts", hint)
    return True


def _missing(run: Run, models: list[Model]) -> str:
    """Which parts are not done yet, in words; empty if all are."""
    parts = parts_of(run.folder)
    left = {part.number: len(part.untrained(models, run.folder)) for part in parts}
    numbers = [str(number) for number, count in left.items() if count]
    if not numbers:
        return ""
    many = "s" if len(numbers) > 1 else ""
    return f"missing: part{many} {', '.join(numbers)} of {len(parts)} ({sum(left.values())} of {len(models)} models)"


def _finished(run: Run, models: list[Model]) -> Results | None:
    """The results, once all parts are there and unless another process is about to write them."""
    said = _missing(run, models)
    if not said:
        try:
            patiently(partial(gather, run, models))
            return patiently(partial(execute, run))
        except LockedError as busy:
            said = f"the report is being written: {busy}"
    _tell(run.folder, said)
    return None


def _tell(run_folder: Path, said: str) -> None:
    with stdout_may_fail():
        print(f"{show(run_folder)}: this part is done; {said}")
