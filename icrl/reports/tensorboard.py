"""A TensorBoard view of a run: made of its records, metrics.jsonl and the results document, row by row while it trains.

Event files are a view and never the record: a damaged one shows a shorter curve without any error, and a resumed run
that appends to one shows steps twice. Each rebuild therefore writes them anew beside the old ones and puts them in
their place; only a process that trains appends to the file that it made itself (``LiveRun``).

Layout: one run of TensorBoard for each model (``train DPT seed 0``), for the training seeds of a variant together
(``train DPT all seeds``) and for each agent of the evaluation (``eval ucb1``), under tags that they share: curves lie
over each other in colours of their own. The run ``report`` has the summary, the figures and the custom charts.
"""

import dataclasses
import logging
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, cast

import numpy as np

from icrl.core.errors import IcrlError, require
from icrl.reports.charts import to_pixels
from icrl.reports.event_files import EVENTS, EventRecords, Layout, event_file_name
from icrl.reports.figures import draw_figures
from icrl.reports.schema import SECTIONS, Results, contents
from icrl.reports.section import Table
from icrl.storage.publish import make_folder, write_new
from icrl.storage.views import append_to_view, replacing_files

REPORT = "report"  # the run of what is said once
BOUNDS = ("mean", "low", "high")
LONGEST = 80  # letters of a run's name
_log = logging.getLogger("icrl")
Rows = dict[int, dict[str, float]]  # {step: {metric: value}} in increasing order


class ModelRun(NamedTuple):
    """A model as the dashboard shows it."""

    variant: str
    train_seed: int
    settings: Mapping[str, Any]  # by leaf name

    @property
    def name(self) -> str:
        """Of its run."""
        return folder_name(f"train {self.variant} seed {self.train_seed}")


def write_tensorboard(
    folder: Path,
    metrics_rows: Iterable[Mapping[str, Any]],
    results: Results | None = None,
    models: Sequence[ModelRun] = (),
) -> None:
    """Replace all event files under ``folder`` by those of ``metrics_rows`` and ``results`` (None: none yet).

    Rows are {"step": int, "seed": int (0 if absent), metric: number or None, ...}, of the model number ``seed`` of
    ``models``. Where a resumed run logged a step again, the later row counts.
    """
    by_seed = _rows_by_seed(metrics_rows)
    known = {seed: models[seed] if seed < len(models) else ModelRun("", seed, {}) for seed in by_seed}
    runs = {known[seed].name: _training_records(known[seed], rows) for seed, rows in by_seed.items()}
    report, layout = EventRecords(), Layout()
    for variant in dict.fromkeys(model.variant for model in known.values()):
        of_variant = [rows for seed, rows in by_seed.items() if known[seed].variant == variant]
        if (together := _loss_over_seeds(of_variant)) is not None:
            runs[folder_name(f"train {variant} all seeds")] = together
            layout = {"training": {"loss, mean and range over seeds": ["Margin", _bounds("loss_over_seeds")]}}
    if results is not None:
        runs |= _evaluation_records(results)
        layout |= _charts(results)
        _add_report(report, results)
    if layout:
        report.custom_charts(layout)
    with replacing_files(folder, EVENTS) as fresh:
        for name, records in {**runs, REPORT: report}.items():
            make_folder(fresh / name)
            write_new(fresh / name / event_file_name(), records.taken())


@dataclasses.dataclass
class LiveRun:
    """A model on the dashboard while it trains; in the loop of training a listener.

    Nothing here ends a training: what cannot be written is said once, and tried again with the next row.
    """

    folder: Path  # of all event files
    model: ModelRun
    _path: Path | None = None  # of the file that is appended to
    _pending: bytes = b""
    _is_quiet: bool = False
    _records: EventRecords | None = None

    def begins(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Show ``rows``, all that the record has of this model, in place of whatever was shown of it."""
        by_seed, self._path = _rows_by_seed(rows), None
        self._records = _training_records(self.model, next(iter(by_seed.values()), {}))
        self._pending = self._records.taken()
        self._write()

    def logged(self, row: Mapping[str, Any]) -> None:
        """Show one row more."""
        assert self._records is not None, "it begins first"
        for rows in _rows_by_seed([row]).values():
            _add_rows(self._records, rows)
        self._pending += self._records.taken()
        self._write()

    def _write(self) -> None:
        try:
            if self._path is None:
                self._path = self._made_anew()
            else:
                append_to_view(self._path, self._pending)
            self._pending = b""
        except (OSError, IcrlError) as error:
            if not self._is_quiet:
                _log.warning("the dashboard waits: %s", error)
            self._is_quiet = True

    def _made_anew(self) -> Path:
        place, name = self.folder / self.model.name, event_file_name()
        make_folder(self.folder)
        with replacing_files(place, EVENTS) as fresh:
            write_new(fresh / name, self._pending)
        return place / name


def folder_name(text: str) -> str:
    """``text`` as the name of a folder, and so of a run of TensorBoard."""
    return re.sub(r"[^\w.,@=+() -]", "_", " ".join(text.split()))[:LONGEST].strip(" .") or "_"


def _rows_by_seed(metrics_rows: Iterable[Mapping[str, Any]]) -> dict[int, Rows]:
    """Return {seed: {step: {metric: value}}}, both in increasing order, the last row of a step winning."""
    by_seed: dict[int, Rows] = {}
    for index, row in enumerate(metrics_rows):
        require("step" in row, f"metrics row {index}", sorted(row), "a dictionary with 'step'")
        for name in ("step", "seed"):
            whole = isinstance(row.get(name, 0), numbers.Integral) and not isinstance(row.get(name), bool)
            require(whole, f"metrics row {index}: {name}", row.get(name), "an integer")
        values = {key: float(value) for key, value in row.items() if key not in ("step", "seed") and _is_number(value)}
        by_seed.setdefault(int(row.get("seed", 0)), {})[int(row["step"])] = values
    return {seed: dict(sorted(by_seed[seed].items())) for seed in sorted(by_seed)}


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a point of a curve: any real number, of NumPy and of jax too, but no truth value."""
    if np.ndim(value) == 0 and hasattr(value, "dtype"):
        return bool(np.issubdtype(value.dtype, np.number)) and not np.iscomplexobj(value)
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _training_records(model: ModelRun, rows: Rows) -> EventRecords:
    records = EventRecords()
    if model.settings:
        told = {name: _plain(value) for name, value in model.settings.items()}
        records.hyperparameters({**told, "train_seed": model.train_seed}, ["training/loss", "training/val_loss"])
    _add_rows(records, rows)
    return records


def _plain(setting: Any) -> Any:
    """A setting as hyperparameters can be: several names are one text."""
    return ",".join(setting) if isinstance(setting, tuple | list) else setting


def _add_rows(records: EventRecords, rows: Rows) -> None:
    for step, values in rows.items():
        for metric, value in values.items():
            records.scalar(f"training/{_slug(metric)}", value, step)


def _loss_over_seeds(by_seed: Sequence[Rows]) -> EventRecords | None:
    """Mean, least and greatest training loss over seeds, at the steps all seeds share; nothing for a single seed."""
    if len(by_seed) < 2:
        return None
    records = EventRecords()
    for step in by_seed[0]:
        losses = [rows[step]["loss"] for rows in by_seed if "loss" in rows.get(step, {})]
        if len(losses) == len(by_seed):
            for bound, value in zip(BOUNDS, (float(np.mean(losses)), min(losses), max(losses)), strict=True):
                records.scalar(f"loss_over_seeds/{bound}", value, step)
    return records


def _evaluation_records(results: Results) -> dict[str, EventRecords]:
    """One run an agent, with its curves of all sections that have some."""
    names: dict[str, str] = {}  # by agent
    runs: dict[str, EventRecords] = {}
    for section in SECTIONS:
        part: Any = results.get(section.key)
        for agent, curves in (part["agents"] if section.curves and part else {}).items():
            assert section.curves is not None
            if agent not in names:
                names[agent] = _unlike(folder_name(f"eval {agent}"), runs)
                runs[names[agent]] = EventRecords()
            band, axis = curves[section.curves.field], part[section.curves.axis]
            for bound, tag in zip(BOUNDS, _bounds(section.curves.field), strict=True):
                for x, value in zip(axis, band[bound], strict=True):
                    runs[names[agent]].scalar(tag, value, x)
    return runs


def _unlike(name: str, others: Iterable[str]) -> str:
    """``name``, numbered if a file system that has no capitals would take it for one of the ``others``."""
    taken, count, found = {other.casefold() for other in others}, 1, name
    while found.casefold() in taken:
        count += 1
        found = f"{name} ({count})"
    return found


def _charts(results: Results) -> Layout:
    """Curves with their bands, all agents in one chart."""
    shown = [section for section in SECTIONS if section.curves and results.get(section.key)]
    tagged = {curves.title: _bounds(curves.field) for section in shown for curves in [cast(Any, section.curves)]}
    return {title: {"all agents": ["Margin", tags]} for title, tags in tagged.items()}


def _bounds(name: str) -> list[str]:
    return [f"{name}/{bound}" for bound in BOUNDS]


def _add_report(records: EventRecords, results: Results) -> None:
    for name, figure in draw_figures(results).items():
        records.image(f"figures/{name}", to_pixels(figure), results["num_steps"])
    records.text("summary", _markdown(results), results["num_steps"])


def _markdown(results: Results) -> str:
    lines = [f"# {results['title']}", "", results["claim"]]
    for table in (item for items in contents(results) for item in items if isinstance(item, Table)):
        lines += ["", f"**{table.title}**", "", _row(table.columns), "|---" * len(table.columns) + "|"]
        lines += [_row(cells) for _, cells in table.rows]
        lines += ["", table.note] if table.note else []
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _slug(name: str) -> str:
    """``name`` as a tag: what tensorboardX would replace silently is replaced here, so that charts find it."""
    return re.sub(r"[^-\w.]", "_", name)
