"""What a script or a notebook calls: the verbs of the command line as functions.

Settings are keywords, those that ``icrl run EXPERIMENT --help`` lists: ``icrl.run("dpt", env="RiverSwim-v0",
train_steps=500)``. An environment may also be given as it is (``env=GaussianBandit(num_arms=3)``), and all settings as
a ``Recipe``.
"""

from pathlib import Path
from typing import Any

from icrl.core.errors import require
from icrl.core.registry import environments, experiments
from icrl.core.settings import flat
from icrl.core.types import Environment
from icrl.datasets.histories import StoredHistories
from icrl.datasets.verify import check_owner
from icrl.recipes import run as runs
from icrl.recipes.model_experiment import ModelExperiment
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import OnRow, Run
from icrl.reports import report
from icrl.reports.results import RunResults
from icrl.storage.lock import RunLock


def run(
    experiment: str | Recipe,
    *,
    preset: str = "cpu",
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    on_row: OnRow | None = None,
    **settings: Any,
) -> RunResults:
    """Pretrain, evaluate beside competitors, and write the report: ``icrl run`` in Python.

    Args:
      experiment: a registered experiment (``icrl.registry.experiments``), or a ``Recipe`` with all settings.
      preset: smoke (seconds), cpu (minutes) or paper.
      seed: root of all randomness.
      out: output folder, ``runs/EXPERIMENT`` by default.
      resume: go on with the run that is in the folder, if there is one; one that is finished is only read and drawn.
      on_row: is called with each row of metrics as it is logged: a dictionary with ``step``, ``loss``, ``variant``,
        ``train_seed`` and more. What it raises ends the training; it goes on with ``resume``.
      **settings: that differ from the preset's.

    Raises:
      InputError: unknown names, bad values, or a folder that is in use otherwise.

    Example::

        results = icrl.run("dpt", env="BernoulliBandit-v0", preset="smoke", out="runs/mine")
        results.figure("regret").savefig("regret.png")
    """
    started = _started(experiment, preset, seed, out, resume, on_row, settings)
    return RunResults(runs.execute(started), started.folder)


def pretrain(
    experiment: str | Recipe,
    *,
    preset: str = "cpu",
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    on_row: OnRow | None = None,
    **settings: Any,
) -> Path:
    """Train the models of an experiment and return the run's folder, for ``evaluate`` and ``load_agent``.

    Arguments and errors are those of ``run``.

    Example::

        folder = icrl.pretrain("dpt", env="BernoulliBandit-v0", preset="smoke", out="runs/mine")
        agent = icrl.load_agent(folder)
    """
    name = experiment.prediction.objective if isinstance(experiment, Recipe) else experiment
    require(issubclass(experiments[name], ModelExperiment), "experiment", name, "one that is a recipe")
    started = _started(experiment, preset, seed, out, resume, on_row, settings)
    with RunLock(started.folder, started.experiment):
        experiments[name].pretrain(started.settings, started)
    return started.folder


def evaluate(folder: str | Path) -> RunResults:
    """Evaluate the models that the run in ``folder`` has trained, and write its report: ``icrl evaluate`` in Python.

    Raises:
      InputError: no run or no checkpoint there. DamagedError: nothing intact there.

    Example::

        icrl.evaluate("runs/mine").to_csv("mine.csv")
    """
    again = runs.reopen(Path(folder).expanduser())
    return RunResults(runs.evaluate(again), again.folder)


def read_results(folder: str | Path) -> RunResults:
    """The results of the finished run in ``folder``; nothing is computed or written.

    Raises:
      InputError: no finished run there. DamagedError: its results are damaged, or of another run.

    Example::

        icrl.read_results("runs/mine").to_frame()
    """
    place = Path(folder).expanduser()
    path = place / runs.RESULTS
    require(path.is_file(), "folder", str(folder), "a folder with results.json", "run `icrl evaluate` on it first")
    document = report.read_results(path)
    check_owner(place, document)
    return RunResults(document, place)


def open_histories(folder: str | Path) -> StoredHistories:
    """The learning histories that ``icrl collect`` or a run has stored in ``folder``, verified.

    Raises:
      InputError: no histories there. DamagedError: they are not as they were written.

    Example::

        icrl.open_histories("runs/mine/data/source-0c1d2e3f").episode_returns()
    """
    return StoredHistories(Path(folder).expanduser())


def _started(
    experiment: str | Recipe,
    preset: str,
    seed: int,
    out: str | Path | None,
    resume: bool,
    on_row: OnRow | None,
    settings: dict[str, Any],
) -> Run:
    require(on_row is None or callable(on_row), "on_row", on_row, "a callable that takes a row, or None")
    if isinstance(experiment, Recipe):
        settings, experiment = {**flat(experiment), **settings}, experiment.prediction.objective
    require(isinstance(experiment, str), "experiment", experiment, "the name of an experiment, or a Recipe")
    if isinstance(env := settings.get("env"), Environment):
        settings = {**flat(env), **settings, "env": environments.name_of(type(env))}
    folder = Path("runs") / experiment if out is None else Path(out).expanduser()
    return runs.start(experiment, preset, seed, settings, folder, resume, on_row=on_row)
