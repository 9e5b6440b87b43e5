"""The ``icrl`` command: parses and calls, nothing else. ``icrl --help`` imports no jax."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icrl.core import foreign
from icrl.core.commands import top_parser
from icrl.core.compilation_cache import keep_compiled_programs
from icrl.core.console import give_up_stdout, open_missing, say, stdout_may_fail
from icrl.core.errors import IcrlError, InputError, near_names, require, shortened, shown
from icrl.core.places import place_of

MAX_DIGITS = 20  # of a number on the command line
MAX_LINE = 900  # characters of a refusal
TAKE_NAMES = ("run", "collect", "filter", "list", "import", "evaluate-logs")  # commands whose words may be MODULE:NAME
COMPILE = ("run", "collect", "evaluate", "evaluate-logs", "bench")  # commands whose programs are kept


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # of a resource


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on stderr."""
    open_missing()
    if "JAX_NUMPY_DTYPE_PROMOTION" in os.environ:  # jax is not imported yet, and types meet in our code only
        os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "standard"
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except IcrlError as error:
        line = " ".join(str(error).split())
        if isinstance(error, InputError) and len(line) > MAX_LINE:  # somebody's words, given back
            line = f"{line[: MAX_LINE // 2]} ... {line[-MAX_LINE // 4 :]}"
        say(f"icrl: {line}")
        return error.exit_code
    except MemoryError as error:
        say(f"icrl: out of memory: {error}")
        return 5
    except BrokenPipeError:
        give_up_stdout()  # whoever read our output has left
        return 0
    except KeyboardInterrupt:
        say("icrl: interrupted")
        return 130
    except OSError as error:  # a path that cannot be used, or stdout that cannot be written
        give_up_stdout()
        where = f"{shown(str(error.filename))}: " if error.filename else ""
        say(f"icrl: {where}{error.strerror or error}")
        return 5 if error.errno in FULL else 2
    except RuntimeError as error:
        if not (line := _lacking(error)):
            raise
        say(f"icrl: {line}")
        return 5


def _lacking(error: RuntimeError) -> str:
    """What jax lacks, in a line, if that is why it failed; else empty."""
    first = str(error).partition("\n")[0]
    if "RESOURCE_EXHAUSTED" in first or "Out of memory" in first:
        return f"out of memory: {first[:300]}; a smaller width, batch size, horizon or number of tasks needs less"
    if "Unable to initialize backend" in first or "No visible" in first:
        return f"no such device: {first[:300]}"
    return ""


def _dispatch(argv: list[str]) -> int:
    args, rest = top_parser().parse_known_args(argv)
    for name, value in vars(args).items():
        if isinstance(value, list):  # what argparse makes of --NAME=--
            raise InputError(f"--{name.replace('_', '-')}: got '--', allowed: a value")
    if args.command in COMPILE:
        keep_compiled_programs()
    _allow_modules(args, argv)
    with foreign.stored_names():  # what the words name is allowed by now
        return _called(args, rest)


def _allow_modules(args: argparse.Namespace, argv: list[str]) -> None:
    """Allow what ``--allow-import`` names, and modules of names that are typed where files name none."""
    if getattr(args, "allow_import", None) is not None:
        foreign.allow(part.strip() for part in args.allow_import.split(","))
    if args.command in TAKE_NAMES:
        foreign.allow_typed(argv)


def _called(args: argparse.Namespace, rest: list[str]) -> int:
    if args.command == "run":
        return _run(args, rest)
    if args.command == "collect":
        return _collect(args, rest)
    if args.command == "filter":
        return _filter(args, rest)
    if args.command == "import":
        return _import(args, rest)
    if rest:
        raise InputError(shortened(f"unrecognized arguments: {' '.join(rest)}"))
    if args.command == "show":
        return _show(args)
    if args.command == "list":
        return _list_fitting(args) if args.env is not None else _list(args.kind, args.json)
    if args.command == "verify":
        return _verify(_path(args.folder))
    if args.command == "inspect":
        return _inspect(_path(args.folder), args.png)
    if args.command == "export":
        return _export(args)
    if args.command == "export-agent":
        return _export_agent(args)
    if args.command == "evaluate-logs":
        return _evaluate_logs(args)
    if args.command == "bench":
        from icrl.recipes.bench import bench

        bench(args.names, None if args.json is None else _path(args.json))
        return 0
    if args.command == "report" and args.csv is not None:
        return _csv(_path(args.folder), args.csv)
    from icrl.recipes import run as runs

    run = runs.reopen(_path(args.folder))
    (runs.evaluate if args.command == "evaluate" else runs.report)(run)
    _say_where(run.folder)
    return 0


def _run(args: argparse.Namespace, rest: list[str]) -> int:
    if args.help and args.experiment is None:
        top_parser().run_parser.print_help()  # type: ignore[attr-defined]
        return 0
    stored = _stored_config(args)
    _check_experiment(args.experiment)
    from icrl.core.flags import known_values, values_of
    from icrl.recipes import run as runs

    seed = _integer("seed", args.seed)
    defaults = runs.settings_of(args.experiment, args.preset, {})
    if args.help:
        _print_settings(args, defaults, rest)
        return 0
    from_file = known_values(_path(args.config), defaults, stored) if args.config else {}
    values = values_of(defaults, rest, from_file)
    out = _path(args.out) if args.out is not None else Path("runs") / args.experiment
    asked = args.experiment, args.preset, seed, values, out
    place = place_of(args.coordinator, args.process, args.processes)
    if place is not None:
        from icrl.recipes.hosts import run_together

        require(args.part is None, "part", args.part, "none with --processes: a part is trained by one process")
        if run_together(*asked, place, args.resume, large=args.yes) is None:
            return 0
    elif args.part is not None:
        from icrl.recipes.gathering import run_part

        if run_part(*asked, args.part, large=args.yes) is None:
            return 0
    else:
        runs.execute(runs.start(*asked, args.resume, large=args.yes))
    _say_where(out)
    return 0


def _stored_config(args: argparse.Namespace) -> dict[str, Any]:
    """The values of ``--config``; its experiment, preset and seed become those of ``args`` that are not given."""
    stored: dict[str, Any] = {}
    if args.config is not None:
        from icrl.core.flags import read_toml

        stored = read_toml(_path(args.config))
        name = stored.pop("experiment", args.experiment)
        if args.experiment not in (None, name):
            raise InputError(f"experiment: got {args.experiment!r}, allowed: {name!r}, that of {args.config}")
        args.experiment = name
        args.preset = args.preset or stored.get("preset")
        args.seed = str(stored["seed"]) if args.seed is None and "seed" in stored else args.seed
        stored = {key: value for key, value in stored.items() if key not in ("preset", "seed")}
    args.preset, args.seed = args.preset or "cpu", "0" if args.seed is None else args.seed
    return stored


def _show(args: argparse.Namespace) -> int:
    """Print the settings of a run's folder, or of an experiment's preset, as a file for ``--config``."""
    from icrl.core.flags import to_toml
    from icrl.recipes import run as runs

    if _path(args.what).is_dir():
        run = runs.reopen(_path(args.what))
        name, preset, seed, settings = run.experiment, run.preset, run.seed, run.settings
    else:
        if Path(args.what).name != args.what:
            raise InputError(f"folder: got {shown(args.what)}, allowed: the output folder of a run, or an experiment")
        _check_experiment(args.what)
        name, preset, seed = args.what, args.preset, 0
        settings = runs.settings_of(name, preset, {})
    print(to_toml({"experiment": name, "preset": preset, "seed": seed}, settings), end="")
    return 0


def _collect(args: argparse.Namespace, rest: list[str]) -> int:
    from icrl.core.flags import values_of
    from icrl.recipes import run as runs

    _check_experiment(args.experiment)
    seed, num_tasks = _integer("seed", args.seed), _integer("num-tasks", args.num_tasks)
    values = values_of(runs.settings_of(args.experiment, args.preset, {}), rest)
    runs.collect(args.experiment, args.preset, seed, values, _path(args.out), num_tasks)
    folder = args.out if args.out not in ("contexts", "histories") else f"./{args.out}"  # these words mean new data
    print(f"data: {args.out}   train on it: icrl run {args.experiment} --data {folder}")
    return 0


def _verify(path: Path) -> int:
    if path.suffix == ".safetensors" and path.is_file():
        from icrl.recipes.shared import read_shared

        card = read_shared(path).card
        print(f"intact: an agent, {card['variant']} of {card['experiment']}, licence {card['licence']}")
        return 0
    if os.path.isdir(path / "parts"):  # which takes any path
        from icrl.recipes.gathering import verify
    else:
        from icrl.datasets.verify import verify
    print(f"intact: {verify(path)}")
    return 0


def _inspect(folder: Path, png: str | None) -> int:
    from icrl.datasets.histories import StoredHistories
    from icrl.reports.histories import describe, draw

    stored = StoredHistories(folder)
    print(describe(stored))
    if png is not None:
        draw(stored, _path(png))
    return 0


def _filter(args: argparse.Namespace, rest: list[str]) -> int:
    import numpy as np

    from icrl.core.flags import values_of
    from icrl.core.registry import filters
    from icrl.core.settings import replaced
    from icrl.datasets.histories import StoredHistories
    from icrl.filters._effect import effects
    from icrl.reports.histories import describe_effects

    seed, rule = _integer("seed", args.seed), filters[args.filter]()
    rule, table = replaced(rule, values_of(rule, rest)), StoredHistories(_path(args.folder)).table()
    print(describe_effects(effects(table, rule.select(table, np.random.default_rng([seed, 0, 0])))))
    return 0


def _import(args: argparse.Namespace, rest: list[str]) -> int:
    from icrl.core.flags import values_of
    from icrl.core.registry import importers
    from icrl.datasets.importing import import_histories, importer_for
    from icrl.datasets.store import StoredRecords

    importer = importer_for(_path(args.source), args.format)
    import_histories(args.source, args.out, importers.name_of(type(importer)), **values_of(importer, rest))
    stored = StoredRecords(_path(args.out), verify=False)
    objective = "dpt" if "query" in stored.fields else "ad"
    print(f"data: {args.out}, {stored.num_tasks:,} tasks   train on it: icrl run {objective} --data {args.out}")
    return 0


def _evaluate_logs(args: argparse.Namespace) -> int:
    from icrl.core.errors import require_float
    from icrl.core.settings import plain_value
    from icrl.datasets.histories import StoredHistories
    from icrl.recipes.logged import evaluate_logs
    from icrl.reports.report import print_tables

    learned = require_float("learn", plain_value(args.learn), 0.0, 1.0, open_low=True, open_high=True)
    names = [name.strip() for name in args.agent.split(",") if name.strip()]
    stored = StoredHistories(_path(args.folder))
    table = evaluate_logs(stored, names, _integer("seed", args.seed), learned)
    print_tables([table])
    print(table["note"])
    return 0


def _csv(folder: Path, out: str) -> int:
    from icrl.recipes.public import read_results

    results = read_results(folder)
    if out == "-":
        sys.stdout.write(results.csv())
    else:
        results.to_csv(_path(out))
        print(f"{len(results.rows()):,} rows: {out}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from icrl.datasets.histories import StoredHistories
    from icrl.datasets.minari_export import export_minari

    tasks, histories = _range("tasks", args.tasks), _range("histories", args.histories)
    out = _path(args.out)
    count = export_minari(StoredHistories(_path(args.folder)), out, tasks, histories, args.author)
    print(f"{count:,} episodes: {out}   MINARI_DATASETS_PATH={out.parent}, minari.load_dataset({out.name!r})")
    return 0


def _export_agent(args: argparse.Namespace) -> int:
    from icrl.recipes.shared import export_agent

    path = _path(args.file)
    card = export_agent(_path(args.folder), path, _integer("number", args.number), args.licence)
    print(f"{card['variant']}, {card['num_parameters']:,} parameters: {path}   icrl.load_agent({str(path)!r})")
    return 0


def _check_experiment(name: str | None) -> None:
    """Refuse an unknown experiment before jax is imported."""
    from icrl.core.registry import experiments

    names = [row.name for row in experiments.declared()]
    if name is None:
        raise InputError(f"experiment: missing; known: {', '.join(names)}")
    known = name in names or foreign.parsed(name) is not None
    if not known and all(row.name.rpartition(":")[2] != name for row in experiments.listed()):
        raise InputError(f"unknown experiment {name!r}; {near_names(name, names)}")


def _path(text: str) -> Path:
    """A path as a shell means it; ``--out=~/x`` reaches us with its tilde."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user, or no home
        return Path(text)


def _integer(field: str, text: str) -> int:
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > MAX_DIGITS:
        raise InputError(f"{field}: got {shown(text)}, allowed: an integer")
    return int(text)


def _range(field: str, text: str | None) -> range | None:
    """The numbers that FIRST:END means; None means all of them."""
    if text is None:
        return None
    first, _, end = text.partition(":")
    if not all(part.isascii() and part.isdigit() and len(part) <= MAX_DIGITS for part in (first, end)):
        raise InputError(f"{field}: got {text!r}, allowed: FIRST:END, for instance 0:3")
    return range(int(first), int(end))


def _print_settings(args: argparse.Namespace, defaults: Any, rest: list[str]) -> None:
    from icrl.core.flags import flag_words, help_text, leaf_name
    from icrl.core.registry import experiments
    from icrl.core.settings import chosen

    settings = chosen(defaults, {leaf_name(flag): text for flag, text in flag_words(rest) if text is not None})
    top_parser().run_parser.print_help()  # type: ignore[attr-defined]
    doc = sys.modules[experiments[args.experiment].__module__].__doc__ or ""
    print(f"\n{args.experiment}, preset {args.preset}\n\n{doc}\n{help_text(settings)}")


def _list(kind: str | None, as_json: bool) -> int:
    from icrl.core.registry import KINDS

    if kind is not None and kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}; {near_names(kind, KINDS)}")
    rows = {name: KINDS[name].listed() for name in ([kind] if kind else KINDS)}
    sizes = _model_sizes([row.name for row in rows["models"]]) if kind == "models" else {}
    if as_json:
        listed = {name: [row._asdict() | sizes.get(row.name, {}) for row in found] for name, found in rows.items()}
        print(json.dumps(listed, indent=1))
        return 0
    width = max(len(row.name) for found in rows.values() for row in found)
    for name, found in rows.items():
        print(name)
        for row in found:
            size = "".join(f"{count:>9,} {what.replace('_', ' ')}  " for what, count in sizes.get(row.name, {}).items())
            print(f"  {row.name:<{width}}  {size}{row.file:<40}  {row.paper}")
    return 0


def _list_fitting(args: argparse.Namespace) -> int:
    """Print the agents that fit an environment, and the reasons of the others."""
    if args.kind != "agents":
        raise InputError(f"--env: got {args.env!r}, allowed: with `icrl list agents`")
    from icrl.core.registry import agents, environments
    from icrl.recipes.competitors import fitting

    field = fitting(environments.make(args.env), tuple(agents))
    if args.json:
        print(json.dumps({"fit": sorted(field.players), "refused": field.refused}, indent=1))
        return 0
    width = max(map(len, agents))
    for name in agents:
        print(f"  {name:<{width}}  {field.refused.get(name, 'fits')}")
    return 0


def _model_sizes(names: list[str]) -> dict[str, dict[str, int]]:
    """Parameters and state bytes of the models in their default shapes; the one listing that waits for jax."""
    from icrl.models._sizes import size_of

    return {name: size_of(name)._asdict() for name in names}


def _say_where(folder: Path) -> None:
    with stdout_may_fail():
        print(f"report: {folder / 'report.html'}   dashboard: tensorboard --logdir {folder / 'tensorboard'}")


if __name__ == "__main__":
    sys.exit(main())
