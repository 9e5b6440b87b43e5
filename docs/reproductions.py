"""``reproductions.md``: every published number of the recipes beside ours, made from the small files in ``results/``.

    python docs/reproductions.py keep FOLDER         # of a run: results/EXPERIMENT-PRESET.json, and the page
    python docs/reproductions.py keep FOLDER CHANGE  # one that differs from its preset as ``CHANGES`` says
    python docs/reproductions.py                     # writes the page anew from these files

A kept file holds the numbers that the page needs, the settings, versions, device and date of its run, the digests of
its ``results.json`` and figures, and one of itself: nothing on the page is typed in. A test makes the page again and
compares. ``EXPERIMENT.png`` is shown as the figure of a run only if it is one of that run's own.
"""

import datetime
import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from claims import CHANGES, CLAIMS, Claim, Value

from icrl.core.errors import IcrlError, InputError, require
from icrl.core.registry import experiments
from icrl.core.settings import flat
from icrl.reports.numbers import short_number
from icrl.reports.report import read_results
from icrl.storage.documents import read_document, write_document
from icrl.storage.publish import make_folder, read_json
from icrl.storage.run_folder import CONFIG, read_config

HERE = Path(__file__).parent
PAGE, KEPT = HERE / "reproductions.md", HERE / "results"
SCHEMA = 1
NOT_RUN = "not run on this version"


# --- from a run to a kept file ---


def kept(folder: Path, change: str = "") -> dict[str, Any]:
    """What is kept of the finished run in ``folder``, for the claims of its experiment or for one of ``CHANGES``.

    Raises:
      InputError: no finished run there, one of an experiment that no published number is about, or not of the change.
    """
    require((folder / "results.json").is_file(), "folder", str(folder), "the output folder of a finished run")
    results, config = read_results(folder / "results.json"), read_config(folder)
    settings, name = config["settings"], results["experiment"]
    require(name in CLAIMS, "experiment", name, ", ".join(CLAIMS), "no published number is about it")
    require(change in ("", *CHANGES), "change", change, ", ".join(CHANGES))
    if change:
        require(name == CHANGES[change].experiment, "experiment", name, CHANGES[change].experiment)
        readers = CHANGES[change].numbers
    else:
        readers = {what: claim.read for what, claim in CLAIMS[name].items()}
    began = datetime.datetime.fromtimestamp((folder / CONFIG).stat().st_mtime, datetime.UTC)
    head = {key: results[key] for key in ("experiment", "preset", "seed", "train_seeds", "num_tasks", "num_steps")}
    return {
        "schema": SCHEMA,
        **head,
        "date": began.date().isoformat(),  # on which the run began
        "device": results["device"],
        "versions": results["versions"],
        "seconds": results["seconds"]["total"],
        "settings": {key: value for key, value in settings.items() if key not in head},
        "figures": {path.name: _sha256(path) for path in sorted((folder / "figures").glob("*.png"))},
        "results_sha256": read_json(folder / "results.json")["sha256"],
        "numbers": {what: read(dict(results), settings) for what, read in readers.items()},
    }


def keep(folder: Path, change: str = "") -> Path:
    """Write what is kept of a run into ``results/``, in place of an earlier run of the same preset or change."""
    found = kept(folder, change)
    require(found["preset"] != "smoke", "preset", "smoke", "cpu or paper", "seconds of training promise nothing")
    missing = [what for what, numbers in found["numbers"].items() if change and None in numbers]
    require(not missing, "folder", str(folder), f"a run with the flags of {change!r}", f"it lacks {', '.join(missing)}")
    path = KEPT / f"{found['experiment']}-{change or found['preset']}.json"
    make_folder(path.parent)
    write_document(path, found)
    return path


# --- from kept files to the page ---

HEAD = f"""# Published numbers, and ours

Made by `python docs/reproductions.py` from the files in `docs/results`; each is made of a finished run:

```bash
icrl run dpt-bandit
python docs/reproductions.py keep runs/dpt-bandit
```

Ours: the mean and its 95 % interval. A claim is "met" where our interval reaches the published number or is better; a
competitor's, where our interval and theirs overlap. What cannot be expected at another size than the paper's is said to
be so. Minutes are those of the clock, on two cores that other work often shared. "{NOT_RUN}": no run is kept here;
the docstrings of the experiments tell of earlier ones. Settings that differ from the preset's stand behind it.
"""
CHANGES_HEAD = """## One change each

Runs that differ from a preset in one thing, to find out why a number is missed. `python docs/reproductions.py keep
FOLDER CHANGE` puts a finished one here.
"""
COLUMNS = ("claim", "theirs", "ours", "preset", "run", "verdict", "figure")


class Theirs(NamedTuple):
    """A published number, with what is behind its +-."""

    mean: float
    error: float


def theirs(value: str) -> list[Theirs]:
    """The numbers in a published value: "0.96 / 1.26", "10.31 +- 0.44", "25.1 %" (which is .251)."""
    scale = 0.01 if value.endswith("%") else 1.0
    found = re.findall(r"(\d+(?:\.\d+)?)(?: \+- (\d+(?:\.\d+)?))?", value)
    return [Theirs(scale * float(mean), scale * float(error or 0)) for mean, error in found]


def page() -> str:
    """The page, from the files that are there."""
    parts = [HEAD]
    for name in experiments:
        if experiments[name].published:
            parts += [f"## {name}\n", *table(name), ""]
    return "\n".join([*parts, CHANGES_HEAD, *(_changed(name) for name in CHANGES)])


def _changed(change: str) -> str:
    """The section of one of ``CHANGES``."""
    told = CHANGES[change]
    head = f"### {change}\n\n{told.question}\n\n`icrl run {told.experiment} {told.flags}`\n\n"
    path = KEPT / f"{told.experiment}-{change}.json"
    if not path.is_file():
        return f"{head}{NOT_RUN.capitalize()}.\n"
    run = read_document(path, version=("schema", SCHEMA))
    rows = [[what, *(_in_words(number, False) for number in run["numbers"][what])] for what in told.numbers]
    seeds = f"{len(run['train_seeds'])} training seed(s), {run['num_tasks']:,} tasks"
    lines = [f"| {' | '.join(line)} |" for line in (("what", "measured"), ("---", "---"), *rows)]
    return f"{head}{chr(10).join(lines)}\n\nPreset {run['preset']}, {seeds}; {_when(run)}.\n"


def _when(run: Mapping[str, Any]) -> str:
    version = f"icrl {run['versions']['icrl']}, jax {run['versions']['jax']}"
    return f"{run['date']}, {run['device']}, {version}, {run['seconds'] / 60:.0f} min"


def table(name: str) -> list[str]:
    """The lines of the table of one experiment: a row for each claim and kept run."""
    rows = [cells for each in experiments[name].published for cells in _rows(name, each)]
    return [f"| {' | '.join(line)} |" for line in (COLUMNS, ["---"] * len(COLUMNS), *rows)]


def kept_runs(name: str) -> list[dict[str, Any]]:
    """The kept runs of an experiment, one a preset."""
    paths = [KEPT / f"{name}-{preset}.json" for preset in experiments[name].presets]
    return [read_document(path, version=("schema", SCHEMA)) for path in paths if path.is_file()]


def _rows(name: str, published: Mapping[str, Any]) -> list[list[str]]:
    """A row for each kept run."""
    claim, value = CLAIMS[name][published["what"]], str(published["value"])
    first = [f"{published['what']} ({published['where']})", value]
    rows = []
    for run in kept_runs(name):
        ours = run["numbers"][published["what"]]
        shown = " / ".join(_in_words(each, value.endswith("%")) for each in ours)
        judged = verdict(claim, theirs(value), ours, run["settings"])
        rows.append([*first, shown, _preset(run), _when(run), judged, _figure(run)])
    return rows or [[*first, NOT_RUN, "-", "-", "-", "-"]]


def _figure(run: Mapping[str, Any]) -> str:
    """The picture beside this page, if it is one of the run's own."""
    path = HERE / f"{run['experiment']}.png"
    return f"[{path.name}]({path.name})" if path.is_file() and _sha256(path) in run["figures"].values() else "-"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verdict(claim: Claim, published: list[Theirs], ours: list[Value | None], settings: Mapping[str, Any]) -> str:
    """Whether ours reach theirs; or why that cannot be expected, or is not known."""
    sizes = [(key, settings.get(key), value) for key, value in claim.size.items()]
    other = [f"{key} {here}, theirs {value}" for key, here, value in sizes if here != value]
    pairs = [(number, own) for number, own in zip(published, ours, strict=True) if own is not None]
    if not pairs:
        return "not measured"
    if other:
        return f"cannot be expected: {', '.join(other)}"
    met = sum(_reaches(claim.better, number, own) for number, own in pairs)
    of = f" ({met} of {len(pairs)} numbers)" if len(published) > 1 else ""
    if met == len(pairs):
        return f"met{of}"
    return f"cannot be expected: {claim.because}{of}" if claim.because else f"missed{of}"


def _reaches(better: str, published: Theirs, own: Value) -> bool:
    low, high = published.mean - published.error, published.mean + published.error
    if better == "same":
        return own["low"] <= high and own["high"] >= low
    return own["low"] <= published.mean if better == "lower" else own["high"] >= published.mean


def _in_words(own: Value | None, percent: bool) -> str:
    if own is None:
        return "-"
    mean, low, high = (own[part] for part in ("mean", "low", "high"))
    if percent:
        return f"{100 * mean:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{short_number(mean)} [{short_number(low)}, {short_number(high)}]"


def _preset(run: Mapping[str, Any]) -> str:
    """The preset, the settings that this run had otherwise, and its training seeds and tasks."""
    usual = flat(experiments[run["experiment"]].presets[run["preset"]])
    odd = [f"{key} {value}" for key, value in run["settings"].items() if _plain(usual.get(key, value)) != _plain(value)]
    seeds = len(run["train_seeds"])
    counts = [f"{seeds} training seed{'s' if seeds > 1 else ''}", f"{run['num_tasks']:,} tasks"]
    return ", ".join([run["preset"], *odd, *counts])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def main(words: list[str]) -> int:
    """``keep FOLDER``, ``keep FOLDER CHANGE``, or nothing."""
    try:
        if words[:1] == ["keep"] and len(words) in (2, 3):
            print(f"kept: {keep(Path(words[1]), *words[2:])}")
        elif words:
            raise InputError(f"words: got {' '.join(words)!r}, allowed: keep FOLDER [CHANGE], or none")
        PAGE.write_text(page(), encoding="utf-8")
    except IcrlError as error:
        print(f"reproductions: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
