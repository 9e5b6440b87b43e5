"""All that a folder holds, checked to the last byte: a run, a stored set, a selection, or checkpoints.

What is wrong is named, all of it: what is damaged or of another run is a ``DamagedError``; what is only missing, so
that the work can go on, an ``IncompleteError``.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from icrl.core.errors import DamagedError, IcrlError, IncompleteError, require
from icrl.datasets.histories import StoredHistories
from icrl.datasets.store import CARD, StoredRecords
from icrl.filters._selection import read_selection
from icrl.storage import checkpoints
from icrl.storage.documents import read_document
from icrl.storage.lock import CONFIG
from icrl.storage.metrics_log import TRAINING, Head, last_step, read_jsonl, require_rows
from icrl.storage.paths import explained, show
from icrl.storage.run_folder import PARTS, identity_of, read_config
from icrl.storage.typed import conform
from icrl.storage.views import check_view, read_views

METRICS, RESULTS = "metrics.jsonl", "results.json"
SEED = re.compile(r"seed-(\d+)")
KINDS = "a run, a folder of collected data, a selection, or a folder of checkpoints"


def verify(path: Path | str) -> str:
    """What is in ``path``, in words, once all of it is known to be whole.

    Raises:
      InputError: nothing there that could be checked, or of a newer version. DamagedError: something is damaged, or
        of another run. IncompleteError: something is missing that the work would bring when it goes on.
    """
    with explained(path):
        return _verify(Path(path))


def _verify(path: Path) -> str:
    if (path / CONFIG).is_file():
        return _verify_run(path)
    if (path / CARD).is_file():
        return _verify_set(path)
    if path.is_file():
        selection, origin = read_selection(path)
        return f"a selection of {len(selection.index):,} of {origin['num_histories']:,} histories"
    if checkpoints.steps(path):
        return _verify_steps(path, {})[0]
    seeds = _seeds(path)
    require(bool(seeds), "folder", str(path), KINDS, "there is no such thing in it" if path.is_dir() else "")
    return "; ".join(f"{name}: {_verify_steps(path / name, {})[0]}" for name in seeds.values())


def _verify_set(folder: Path) -> str:
    stored = StoredRecords(folder)
    if "action" in stored.fields and "query" not in stored.fields and "task_ids" in stored.card:
        stored = StoredHistories(folder, verify=False)  # its card is of histories: it must fit them
    return f"{stored.num_tasks:,} tasks, digest {stored.digest}"


def _verify_steps(folder: Path, owner: dict[str, Any]) -> tuple[str, dict[int, Head]]:
    """The steps in ``folder`` in words, and the head of the rows that each tells of."""
    heads, known = {}, checkpoints.steps(folder)
    for step in known:
        meta = checkpoints.verified(folder, step, owner)["meta"]
        if owner:
            heads[step] = _head(folder, step, meta)
    return f"steps {', '.join(map(str, known))}", heads


def check_owner(folder: Path, results: Mapping[str, Any]) -> None:
    """Raise ``DamagedError`` if the ``results`` in ``folder`` say that another run measured them."""
    expected, found = identity_of(folder).get("run"), results.get("run")
    if found is not None and found != expected:
        raise DamagedError(f"{show(folder / RESULTS)}: run: expected {expected!r}, found {show(found)!r}, another run")


def _head(folder: Path, step: int, meta: dict[str, Any]) -> Head:
    """The head of the rows that the ``meta`` of a checkpoint tells of."""
    conform(meta, {"rows": int, "crc": str}, f"{show(folder)}: step {step}: meta")
    return Head(meta["rows"], meta["crc"])


def check_record(folder: Path) -> None:
    """Raise ``DamagedError`` unless ``metrics.jsonl`` of a run has all rows that its newest checkpoints tell of."""
    owner = identity_of(folder)
    for seed, name in _seeds(folder / "checkpoints").items():
        saves = folder / "checkpoints" / name
        if known := checkpoints.steps(saves):
            step, contents = checkpoints.newest_intact(saves, known)
            checkpoints.require_owner(saves, contents["meta"], {"seed": seed, **owner})
            require_rows(folder / METRICS, seed, step, _head(saves, step, contents["meta"]))


def _seeds(folder: Path) -> dict[int, str]:
    """The numbers of the models that have checkpoints in ``folder``, and the names of their folders."""
    names = os.listdir(folder) if folder.is_dir() else []
    return {
        int(found[1]): found[0] for found in sorted(filter(None, map(SEED.fullmatch, names)), key=lambda m: int(m[1]))
    }


class _Findings:
    """What is wrong with a run, gathered part by part, so that all of it is told."""

    def __init__(self) -> None:
        self.damaged: list[str] = []
        self.missing: list[str] = []

    def of(self, check: Callable[[], Any]) -> Any:
        """What ``check`` returns; None, and one finding more, when it does not."""
        try:
            return check()
        except IncompleteError as error:
            self.missing.append(str(error))
        except IcrlError as error:
            self.damaged.append(str(error))
        return None

    def raise_all(self) -> None:
        """Raise one error that names everything; damage outweighs what is missing."""
        if self.damaged or self.missing:
            kind = DamagedError if self.damaged else IncompleteError
            raise kind("; ".join(dict.fromkeys([*self.damaged, *self.missing])))


def _verify_run(folder: Path) -> str:
    config, found = read_config(folder), _Findings()
    owner, where = identity_of(folder), show(folder)
    for link in _links(folder):
        found.damaged.append(f"{show(link)}: found a link, which a run never makes")
    told, models = _verify_training(folder, owner, found)
    parts = sorted((folder / PARTS).iterdir()) if (folder / PARTS).is_dir() else []
    for part in parts:
        found.of(partial(_check_part, part, owner))
        _verify_training(part, owner, found)
    told += _verify_data(folder, config, found, models)
    if not (folder / RESULTS).exists():
        again = "--part" if parts else "--resume"
        found.missing.append(f"{where}: missing: {RESULTS}; the run has not come to its end, go on with {again}")
    elif (results := found.of(lambda: read_document(folder / RESULTS))) is not None:
        told.append(RESULTS)
        found.of(lambda: check_owner(folder, results))
        views = found.of(lambda: read_views(folder, results)) or {}
        for name, digest in views.items():
            found.of(partial(check_view, folder, name, digest))
        told.append(f"views: {len(views)}")
    found.raise_all()
    return f"a run of {config['settings'].get('experiment', 'no known experiment')}: {', '.join(told)}"


def _verify_training(folder: Path, owner: dict[str, Any], found: _Findings) -> tuple[list[str], int]:
    """What is trained in the ``folder`` of a run or of a part of it, in words, and how many models have checkpoints."""
    rows = found.of(lambda: read_jsonl(folder / METRICS, TRAINING)) if (folder / METRICS).exists() else []
    told = [f"{len(rows or []):,} rows of metrics"]
    saves = _seeds(folder / "checkpoints")
    for seed, name in saves.items():
        whole = found.of(partial(_verify_model, folder, name, {"seed": seed, **owner}))
        told += [whole] if whole else []
    trained = {row["seed"] for row in rows or []}
    for seed in sorted(trained - saves.keys()):
        found.missing.append(f"{show(folder)}: missing: checkpoints/seed-{seed}, of which metrics.jsonl tells")
    return told, len(saves)


def _check_part(folder: Path, owner: dict[str, Any]) -> None:
    """Raise ``DamagedError`` if the part of a run in ``folder`` says that it is of another one."""
    if (identity := identity_of(folder)) not in ({}, owner):
        raise DamagedError(f"{show(folder / CONFIG)}: expected that of the run, {owner}, found {identity}")


def _verify_model(folder: Path, name: str, owner: dict[str, Any]) -> str:
    """The checkpoints of one model of a run, and that the record has the rows that the newest one tells of."""
    steps, heads = _verify_steps(folder / "checkpoints" / name, owner)
    if not heads:
        raise IncompleteError(f"{show(folder / 'checkpoints' / name)}: missing: a checkpoint; go on with --resume")
    newest, seed = max(heads), owner["seed"]
    require_rows(folder / METRICS, seed, newest, heads[newest])
    if (folder / RESULTS).exists() and (reached := last_step(folder / METRICS, seed)) > newest:
        raise IncompleteError(f"{show(folder / 'checkpoints' / name)}: missing: the checkpoint of step {reached}")
    return f"{name}: {steps}"


def _verify_data(folder: Path, config: dict[str, Any], found: _Findings, models: int) -> list[str]:
    """The sets and selections of a run with so many ``models``.

    A selection must be of sets that are there, or of those the settings name; each model trained on histories has one.
    """
    sets, chosen = [], []
    data = folder / "data"
    for path in sorted(data.iterdir()) if data.is_dir() else []:
        if (path / CARD).is_file():
            sets.append(path)
        elif path.suffix == ".json":
            chosen.append(path)
    digests = {found.of(partial(_whole_digest, path)) for path in sets}
    kind = config["settings"].get("data")
    elsewhere = kind not in (None, "", "contexts", "histories")
    if kind == "histories" and "data" not in str(config["settings"].get("vary")) and len(chosen) < models:
        found.missing.append(f"{show(data)}: missing: {models - len(chosen)} of {models} selections")
    for path in chosen:
        origin = found.of(partial(_origin, path))
        strangers = set(str(origin["dataset"]).split("+")) - digests if origin else set()
        if strangers and not elsewhere and None not in digests:
            found.damaged.append(f"{show(path)}: is a selection from another data set, {show(min(strangers))}")
    return [f"sets of data: {len(sets)}", f"selections: {len(chosen)}"] if sets or chosen else []


def _whole_digest(folder: Path) -> str:
    _verify_set(folder)
    return StoredRecords(folder, verify=False).digest


def _origin(path: Path) -> dict[str, Any]:
    return read_selection(path)[1]


def _links(folder: Path) -> Iterator[Path]:
    for inner, folders, names in os.walk(folder):
        yield from (path for name in (*folders, *names) if (path := Path(inner) / name).is_symlink())
