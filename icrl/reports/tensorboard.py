"""A TensorBoard view of a run, rebuilt from its records: metrics.jsonl rows and the results document.

Event files are a view and never the record: a damaged one shows a shorter curve without any error, and a resumed run
that appends to one shows steps twice. So they are never appended to. Each rebuild writes them anew beside the old ones
and puts them in their place.

Layout: one run per training seed (``seed_0``, ...), so that TensorBoard overlays the seeds of one metric in one chart,
and one run ``evaluation`` with the regret curves, the figures, the summary and the custom charts.
"""

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from icrl.core.errors import require
from icrl.reports.charts import to_pixels
from icrl.reports.figures import draw_figures
from icrl.reports.schema import SECTIONS, Results, contents
from icrl.reports.section import Curves, Table
from icrl.storage.publish import make_folder, write_new
from icrl.storage.views import replacing_files

EVALUATION = "evaluation"
EVENTS = "events.out.tfevents.*"  # how such files are called


def write_tensorboard(folder: Path, metrics_rows: Iterable[Mapping[str, Any]], results: Results | None = None) -> None:
    """Replace all event files under ``folder`` by those of ``metrics_rows`` and ``results`` (None while training).

    Rows are {"step": int, "seed": int (0 if absent), metric: number or None, ...}. Where a resumed run logged a step
    again, the later row counts.
    """
    by_seed = _rows_by_seed(metrics_rows)
    with replacing_files(folder, EVENTS) as fresh:
        _write_runs(fresh, by_seed, results)


def _write_runs(folder: Path, by_seed: dict[int, dict[int, dict[str, float]]], results: Results | None) -> None:
    for seed, rows in by_seed.items():
        with _writer(folder / f"seed_{seed}") as writer:
            _add_training(writer, rows)
    with _writer(folder / EVALUATION) as writer:
        layout = _add_loss_range(writer, by_seed)
        if results is not None:
            layout |= _add_curves(writer, results)
            _add_figures(writer, results)
            writer.add_text("summary", _markdown(results), results["num_steps"])
        if layout:
            writer.add_custom_scalars(layout)


def _rows_by_seed(metrics_rows: Iterable[Mapping[str, Any]]) -> dict[int, dict[int, dict[str, float]]]:
    """Return {seed: {step: {metric: value}}}, both in increasing order, the last row of a step winning."""
    by_seed: dict[int, dict[int, dict[str, float]]] = {}
    for index, row in enumerate(metrics_rows):
        require("step" in row, f"metrics row {index}", sorted(row), "a dictionary with 'step'")
        numbers = {
            key: float(value)
            for key, value in row.items()
            if key not in ("step", "seed") and isinstance(value, int | float) and not isinstance(value, bool)
        }
        by_seed.setdefault(int(row.get("seed", 0)), {})[int(row["step"])] = numbers
    return {seed: dict(sorted(by_seed[seed].items())) for seed in sorted(by_seed)}


class _EventFile:
    """An event file that stays in memory until it is whole.

    The thread of tensorboardX would die of a full disk, and whoever has more to write waits for it for ever.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._data = path, io.BytesIO()

    def write(self, data: bytes) -> None:
        self._data.write(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        """Write the file; a second call, which tensorboardX makes after a failed one, does nothing."""
        data, self._data = self._data.getvalue(), io.BytesIO()
        if data:
            write_new(self._path, data)


class _EventFiles:
    """Where tensorboardX puts the files of a folder that is called ``icrl:FOLDER``."""

    prefix = "icrl"

    @classmethod
    def name(cls, folder: Path) -> str:
        return f"{cls.prefix}:{folder}"

    @staticmethod
    def directory_check(name: str) -> None:
        make_folder(name.partition(":")[2])

    @staticmethod
    def open(name: str) -> _EventFile:
        return _EventFile(Path(name.partition(":")[2]))


def _writer(folder: Path) -> Any:
    # imported here: it pulls in torch where that is installed, which takes a second
    from tensorboardX import SummaryWriter
    from tensorboardX.record_writer import register_writer_factory

    register_writer_factory(_EventFiles.prefix, _EventFiles)
    return SummaryWriter(_EventFiles.name(folder))


def _add_training(writer: Any, rows: Mapping[int, Mapping[str, float]]) -> None:
    for step, numbers in rows.items():
        for metric, value in numbers.items():
            writer.add_scalar(f"training/{_slug(metric)}", value, step)


def _add_loss_range(writer: Any, by_seed: Mapping[int, Mapping[int, Mapping[str, float]]]) -> dict[str, Any]:
    """Mean, least and greatest training loss over seeds, at the steps all seeds share; nothing for a single seed."""
    if len(by_seed) < 2:
        return {}
    shared = [
        step for step in next(iter(by_seed.values())) if all("loss" in rows.get(step, {}) for rows in by_seed.values())
    ]
    for step in shared:
        losses = [rows[step]["loss"] for rows in by_seed.values()]
        for name, value in (("mean", np.mean(losses)), ("low", min(losses)), ("high", max(losses))):
            writer.add_scalar(f"loss_over_seeds/{name}", float(value), step)
    tags = [f"loss_over_seeds/{name}" for name in ("mean", "low", "high")]
    return {"training": {"loss, mean and range over seeds": ["Margin", tags]}} if shared else {}


def _add_curves(writer: Any, results: Results) -> dict[str, Any]:
    """The curves of every agent in the sections that have some; returns the layout of the custom charts."""
    layout: dict[str, Any] = {}
    for section in SECTIONS:
        if section.curves and (part := results.get(section.key)):
            layout[section.curves.title] = _add_agents(writer, section.key, cast(Any, part), section.curves)
    return layout


def _add_agents(writer: Any, key: str, section: Mapping[str, Any], curves: Curves) -> dict[str, Any]:
    """One tag an agent, with bands for model and ideal."""
    agents, field = section["agents"], curves.field
    slugs = {name: _slug(name) for name in agents}
    require(len(set(slugs.values())) == len(slugs), f"results.{key}.agents", list(slugs), "names distinct as tags")
    # a Multiline tag is a regular expression matched at the beginning only
    lines = [f"^{re.escape(f'{field}/{slug}')}$" for slug in slugs.values()]
    charts: dict[str, Any] = {"all agents": ["Multiline", lines]}
    for name, agent in agents.items():
        tags = {"mean": f"{field}/{slugs[name]}"}
        if agent["kind"] in ("model", "ideal"):
            tags |= {bound: f"{field}_{bound}/{slugs[name]}" for bound in ("low", "high")}
            charts[agent["label"]] = ["Margin", [tags["mean"], tags["low"], tags["high"]]]
        for bound, tag in tags.items():
            for x, value in zip(section[curves.axis], agent[field][bound], strict=True):
                writer.add_scalar(tag, value, x)
    return charts


def _add_figures(writer: Any, results: Results) -> None:
    for name, figure in draw_figures(results).items():
        writer.add_image(f"figures/{name}", to_pixels(figure), results["num_steps"], dataformats="HWC")


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
