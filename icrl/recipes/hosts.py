"""``icrl run --processes N``: the models of a run are trained by several processes, on one machine or on many.

Process 0 does what a run alone does, in the folder of the run; it collects, trains, evaluates and reports. The others
read that folder (histories, checkpoints), train along, and end when all models are trained.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from icrl.core.console import stdout_may_fail
from icrl.core.devices import connect, training_mesh
from icrl.core.errors import ResourceError, require, shortened
from icrl.core.places import Place
from icrl.core.processes import Over, leave_service, together
from icrl.core.registry import experiments
from icrl.models.layers.moe import MoEConfig
from icrl.recipes.pretraining import Model, RecipeExperiment
from icrl.recipes.run import Run, config_of, execute, flags_now, settings_of, start
from icrl.reports.schema import Results
from icrl.storage.run_folder import versions


def run_together(
    experiment: str,
    preset: str,
    seed: int,
    values: dict[str, Any],
    out: Path,
    place: Place,
    resume: bool = False,
    large: bool = False,
) -> Results | None:
    """Train a run as the process at ``place``, or go on with it.

    Returns:
      The results in process 0, None in the others.

    Raises:
      InputError: as ``start``; an experiment or a model that processes do not share, a batch that they do not divide,
        processes that know of different settings, versions or seeds.
      ResourceError: a process that does not come.
    """
    settings, kind = settings_of(experiment, preset, values), experiments[experiment]
    allowed = f"none: {experiment} is not a recipe, whose models train"
    require(issubclass(kind, RecipeExperiment), "processes", place.count, allowed)
    models = kind.models(settings)
    for model in models:
        check_shared(model, place.count)
    with together(place, facts_of(experiment, preset, seed, settings)) as team:
        team.start_jax()
        _connect(models, seed)
        if team.leads:
            return execute(start(experiment, preset, seed, values, out, resume, large))
        try:
            kind.follow(settings, Run(out, experiment, preset, seed, settings))
            team.wait_for_the_end()
        except Over:
            pass
    with stdout_may_fail():
        print(f"process {place.number} of {place.count}: training is done; process 0 evaluates and reports")
    return None


def facts_of(experiment: str, preset: str, seed: int, settings: Any) -> Mapping[str, object]:
    """What must be the same in all processes: settings, seed, versions, and the switches of jax."""
    return config_of(experiment, preset, seed, settings) | versions() | flags_now()


def check_shared(model: Model, processes: int) -> None:
    """Raise ``InputError`` for a model whose training several processes do not share; starts no device."""
    recipe, fit = model.recipe, model.recipe.fit
    alone = "1 process, none with --processes"
    objective, hint = recipe.prediction.objective, "its policy makes its own data"
    require(not recipe.is_reinforced, "processes", processes, f"{alone}, with objective {objective}", hint)
    mixture, hint = getattr(recipe.backbone, "mixture", MoEConfig()), "the experts' losses are those of whole batches"
    require(not mixture.branches, "processes", processes, f"{alone}, with moe {mixture.moe}", hint)
    require(fit.seeds_together == 1, "seeds_together", fit.seeds_together, "1 with --processes")
    hint = "one process cuts them over all GPUs of its machine"
    require(not fit.shard_parameters, "shard_parameters", True, "false with --processes", hint)
    rows = fit.batch_size
    require(rows >= processes, "processes", processes, f"at most {rows}, the rows of a batch")
    for name, number in (("batch_size", rows), ("gradient_groups", fit.gradient_groups)):
        nearest = max(1, round((number or 0) / processes)) * processes
        require((number or 0) % processes == 0, name, number, f"a multiple of {processes} processes, as {nearest}")


def _connect(models: list[Model], seed: int) -> None:
    """Let the devices that train find each other, so that jax can do without its service where it may.

    Raises:
      InputError: gradient groups that the processes do not share evenly.
      ResourceError: no exchange between the devices, as where two processes hold the same GPU.
    """
    groups = sorted({_groups(model, seed) for model in models if model.train_seed == 0})
    for mesh in [training_mesh(number) for number in groups]:
        try:
            connect(mesh)
        except (RuntimeError, ValueError) as error:
            line = shortened(" ".join(str(error).split()))
            hint = "each process wants devices of its own"
            raise ResourceError(f"processes: their devices do not reach each other ({line}); {hint}") from error
    if jax.default_backend() == "cpu":
        leave_service()


def _groups(model: Model, seed: int) -> int:
    """G of a model's training here."""
    groups = model.recipe.learner(seed, model.train_seed).settings.gradient_groups
    assert groups is not None  # of resolved settings
    return int(groups)
