"""A run: one experiment with its settings in one output folder, from its first file to its report.

The folder holds ``config.json`` (all settings, versions, seed, device), ``metrics.jsonl`` (the record of training),
``checkpoints/``, ``results.json`` (every number of the report), ``figures/``, ``report.html``, ``tensorboard/`` and
``views.json`` (the digests of these three).
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from icrl.core.console import stdout_may_fail
from icrl.core.devices import device_name
from icrl.core.errors import DamagedError, InputError, require, require_int
from icrl.core.foreign import UntrustedError, allow, stored_names
from icrl.core.registry import experiments
from icrl.core.seeding import MAX_SEED
from icrl.core.settings import flat, replaced
from icrl.datasets.verify import check_owner, check_record
from icrl.gym.agents import HostAgent
from icrl.recipes.ledger import Ledger
from icrl.recipes.recorded import recorded_settings
from icrl.reports.event_files import EVENTS
from icrl.reports.report import print_summary, read_results, write_report
from icrl.reports.schema import SCHEMA, Results
from icrl.reports.tensorboard import write_tensorboard
from icrl.storage.metrics_log import TRAINING, read_jsonl
from icrl.storage.paths import explained, show
from icrl.storage.run_folder import CONFIG, FLAGS, PARTS, RunLock, identity_of, open_run_folder, read_config
from icrl.storage.views import forget_views, record_views

RESULTS = "results.json"  # the last thing that a run writes but for its pictures
_CURVES = ("loss", "val_loss", "trial_return")  # what the report draws of the rows of metrics
MAX_VARIANTS = 64  # of a grid, unless the user asks for more
PRESETS = ("smoke", "cpu", "paper")
CHANGE_NO_BIT = ("shard_parameters",)  # settings that say where things are: a run goes on with another value of them


OnRow = Callable[[dict[str, Any]], object]  # hears of each row of metrics as it is logged


@dataclasses.dataclass(frozen=True)
class Run:
    """What identifies a run; ``settings`` is the experiment's own settings dataclass."""

    folder: Path
    experiment: str
    preset: str
    seed: int
    settings: Any
    on_row: OnRow | None = dataclasses.field(default=None, compare=False)

    @property
    def dashboard(self) -> Path:
        """Where the event files are."""
        return self.folder / "tensorboard"

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The record of training, a row at a time; none of a run that trained nothing."""
        return _metrics(self.folder)

    @property
    def ledger(self) -> Ledger:
        """What its evaluation has finished."""
        return Ledger.of_run(self.folder)

    def results(self, **sections: Any) -> dict[str, Any]:
        """``sections`` completed to a results document."""
        config = read_config(self.folder)
        return {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "preset": self.preset,
            "seed": self.seed,
            "run": identity_of(self.folder)["run"],
            "device": device_name(),
            "versions": config["versions"],
            "training": _training_curves(self.folder),
            **sections,
        }

    def mean_training(self, kinds: Sequence[str], train_seeds: int) -> dict[str, Any]:
        """Loss and validation loss by step of each kind of model, means over its training seeds."""
        curves = list(_training_curves(self.folder).items())
        by_kind = {
            kind: [curve for number, curve in curves if int(number) // train_seeds == place]
            for place, kind in enumerate(kinds)
        }
        return {kind: _mean_curve(each) for kind, each in by_kind.items() if each}


def settings_of(experiment: str, preset: str, values: dict[str, Any]) -> Any:
    """The settings of an experiment's preset with some leaves replaced."""
    presets = experiments[experiment].presets
    require(preset in presets, "preset", preset, ", ".join(presets))
    return replaced(presets[preset], {**recorded_settings(values), **values})


def config_of(experiment: str, preset: str, seed: int, settings: Any) -> dict[str, Any]:
    """What tells one run from another, as ``config.json`` has it."""
    return {"experiment": experiment, "preset": preset, "seed": seed, **flat(settings)}


def flags_now() -> dict[str, Any]:
    """The switches of jax that change random numbers, as they are."""
    return {name: getattr(jax.config, name) for name in FLAGS}


def start(
    experiment: str,
    preset: str,
    seed: int,
    values: dict[str, Any],
    out: Path,
    resume: bool,
    large: bool = False,
    on_row: OnRow | None = None,
    in_parts: bool = False,
) -> Run:
    """Open the output folder of a new run, or with ``resume`` of the one that is there, if there is one.

    Only who trains a part of its models (``gathering.run_part``) goes on with a run that is ``in_parts``.

    Raises:
      ResourceError: no device of the kind that ``JAX_PLATFORMS`` names.
      InputError: unknown names, bad values, a folder that is in use otherwise, a resume with other settings.
    """
    require_int("seed", seed, 0, MAX_SEED)
    device, settings = device_name(), settings_of(experiment, preset, values)
    begun = (out / CONFIG).exists()
    whole = in_parts or not (begun and (out / PARTS).is_dir())
    require(whole, "out", show(out), "a folder of a whole run", "this one is in parts: go on with --part K/N")
    resume = resume and begun  # what was killed before it began is begun
    count = len(experiments[experiment].kinds(settings))
    hint = "--yes trains more"
    require(large or count <= MAX_VARIANTS, "vary", f"{count} variants", f"at most {MAX_VARIANTS}", hint)
    experiments[experiment].validate(settings, seed)  # before the folder is touched
    config = config_of(experiment, preset, seed, settings)
    folder = open_run_folder(out, config, resume, device=device, flags=flags_now(), ignore=CHANGE_NO_BIT)
    return Run(folder, experiment, preset, seed, settings, on_row)


@stored_names()
def reopen(folder: Path) -> Run:
    """The run in ``folder`` as its ``config.json`` tells it.

    Raises:
      InputError: no run there, or one that needs a module that may not be imported.
      DamagedError: its config is not one this version can read.
    """
    require(Path(folder).is_dir(), "folder", str(folder), "the output folder of a run")
    device_name()  # refuses a kind that is not there, before anything is read
    config = Path(folder) / CONFIG
    require(config.is_file(), "folder", str(folder), "the output folder of a run", f"it has no {CONFIG}")
    stored = read_config(folder)
    try:
        values = dict(stored["settings"])
        names = (values.pop("experiment"), values.pop("preset"), values.pop("seed"))
        settings = settings_of(names[0], names[1], values)
        return Run(Path(folder), *names, settings)
    except UntrustedError:
        raise
    except (KeyError, TypeError, InputError) as error:
        raise DamagedError(f"{config}: not the settings of a run this version knows ({error})") from error


def execute(run: Run) -> Results:
    """Do all of an experiment that has not been done yet, then write its report; of a finished run only the report."""
    if (run.folder / RESULTS).exists():
        return report(run)
    with RunLock(run.folder, run.experiment):
        results = experiments[run.experiment].run(run.settings, run)
        return _publish(run, results)


@stored_names()
def evaluate(run: Run) -> Results:
    """Evaluate the run's checkpoints again and rewrite its report."""
    with RunLock(run.folder, run.experiment):
        run.ledger.clear()
        results = experiments[run.experiment].reevaluate(run.settings, run)
        return _publish(run, results)


@stored_names()
def report(run: Run) -> Results:
    """Draw the report and the dashboard again from ``results.json`` and ``metrics.jsonl``."""
    path = run.folder / RESULTS
    require(path.is_file(), "folder", str(run.folder), "a folder with results.json", "run `icrl evaluate` on it first")
    with RunLock(run.folder, run.experiment):
        check_record(run.folder)
        results = read_results(path)
        check_owner(run.folder, results)
        return _publish(run, results)


def collect(experiment: str, preset: str, seed: int, values: dict[str, Any], out: Path, num_tasks: int) -> None:
    """Store the first ``num_tasks`` pretraining contexts of an experiment under ``out``.

    Raises:
      InputError: unknown names, bad values, a folder that holds other data.
    """
    require_int("seed", seed, 0, MAX_SEED)
    require(not out.exists() or out.is_dir(), "out", str(out), "a folder", "this is a file")
    device_name()  # refuses a kind that is not there
    settings = settings_of(experiment, preset, values)
    experiments[experiment].validate(settings, seed)
    experiments[experiment].collect(settings, seed, out, num_tasks)


def load_agent(
    folder: str | Path, seed: int | None = None, allow_import: Iterable[str] = (), env: Any = None
) -> HostAgent:
    """The agent that the run in ``folder`` pretrained, ready for a gymnasium loop.

    Args:
      folder: output folder of a finished (or at least checkpointed) run, or a file of ``icrl export-agent``.
      seed: which training seed; None takes the first.
      allow_import: modules of others that its settings may name; the folder itself imports nothing.
      env: the gymnasium environment that it will act in, where that is not the one it learned in; see ``put_on``.

    Raises:
      InputError: no run or no checkpoint there, one that needs another module, or spaces of ``env`` that do not fit.
      DamagedError: nothing intact there.
    """
    allow(allow_import)
    agent = _loaded(folder, seed)
    return agent if env is None else agent.put_on(env)


@stored_names()
def _loaded(folder: str | Path, seed: int | None) -> HostAgent:
    require(isinstance(folder, (str, Path)), "folder", folder, "the output folder of a run, or a file of an agent")
    path = Path(folder).expanduser()
    with explained(folder):  # a name can be too long to look for
        is_file = path.is_file()
    if is_file:
        from icrl.recipes.shared import read_shared  # which reads runs

        require(seed is None, "seed", seed, "None: the file holds one agent")
        shared = read_shared(path)
        return HostAgent(shared.agent(), shared.recipe.env.spec)
    run = reopen(path)
    agent = experiments[run.experiment].load_agent(run.settings, run, 0 if seed is None else seed)
    return HostAgent(agent, run.settings.env.spec)


def _publish(run: Run, results: Any) -> Results:
    forget_views(run.folder)
    _, *drawn = write_report(run.folder, results)
    run.ledger.clear()
    document, models = read_results(run.folder / RESULTS), experiments[run.experiment].model_runs(run.settings)
    write_tensorboard(run.dashboard, _metrics(run.folder), document, models)
    record_views(run.folder, document, [*drawn, *sorted(run.dashboard.rglob(EVENTS))])
    with stdout_may_fail():
        print_summary(document)
    return document


def _metrics(folder: Path) -> list[dict[str, Any]]:
    """The record of training; none of a run that trained nothing."""
    path = folder / "metrics.jsonl"
    return read_jsonl(path, TRAINING) if path.is_file() else []


def _mean_curve(curves: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of curves with the same steps; without what one of them does not tell at some step."""
    mean: dict[str, Any] = {"step": curves[0]["step"]}
    for field in _CURVES:
        known = all(value is not None for curve in curves for value in curve[field] or [None])
        mean[field] = np.mean([curve[field] for curve in curves], axis=0).tolist() if known else None
    return mean


def _training_curves(folder: Path) -> dict[str, Any]:
    curves: dict[str, Any] = {}
    for row in _metrics(folder):
        curve = curves.setdefault(str(row["seed"]), {name: [] for name in ("step", *_CURVES)})
        for name, values in curve.items():
            values.append(row.get(name))
    for curve in curves.values():
        if any(value is None for value in curve["trial_return"]):
            curve["trial_return"] = None
    return curves
