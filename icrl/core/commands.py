"""The words that the ``icrl`` command takes: its commands and their arguments. Imports no jax.

The settings of an experiment are not here: ``flags.py`` reads them off its dataclasses.
"""

import argparse
from typing import NoReturn

from icrl.core.errors import InputError, shortened

READ_FILES = (  # commands that read files in which names are MODULE:NAME
    *("run", "collect", "show", "evaluate", "report", "verify", "inspect", "filter", "export", "export-agent"),
    "evaluate-logs",
)
EXIT_CODES = (
    "exit codes: 0 done, 1 failed, 2 bad input, 3 damaged data, 4 locked, 5 resources, 6 incomplete, 130/143 stopped"
)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are our one-line errors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(shortened(message))


def top_parser() -> Parser:
    """The parser of all commands; ``run_parser`` is that of ``run`` alone."""
    parser = Parser(
        prog="icrl", allow_abbrev=False, description="In-context reinforcement learning on JAX.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run an experiment and write its report", add_help=False, allow_abbrev=False)
    run.add_argument("experiment", nargs="?", metavar="EXPERIMENT")
    run.add_argument("--preset", default=None, help="smoke (seconds), cpu (minutes, the default), paper (a GPU)")
    run.add_argument("--seed", default=None, help="root of all randomness, 0 to 4294967295 (default 0)")
    run.add_argument("--out", default=None, help="output folder (default runs/EXPERIMENT)")
    run.add_argument("--config", default=None, help="TOML file of settings, as of `icrl show`; flags override it")
    run.add_argument("--yes", action="store_true", help="train a grid of more than 64 variants")
    run.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    run.add_argument("--part", default=None, metavar="K/N", help="train one N-th of the models; the last part reports")
    run.add_argument(
        "--processes", default=None, metavar="N|auto", help="train in N processes, or as SLURM or MPI says"
    )
    run.add_argument("--process", default=None, metavar="K", help="which of them this is, from 0, which alone writes")
    run.add_argument("--coordinator", default=None, metavar="HOST:PORT", help="where process 0 is met")
    run.add_argument("-h", "--help", action="store_true", help="show these and the experiment's own settings")

    collect = commands.add_parser("collect", help="store an experiment's pretraining data", allow_abbrev=False)
    collect.add_argument("experiment", metavar="EXPERIMENT")
    collect.add_argument("--preset", default="cpu", help="as for run")
    collect.add_argument("--seed", default="0", help="as for run")
    collect.add_argument("--out", required=True, help="folder of the data; an unfinished collection goes on")
    collect.add_argument("--num-tasks", required=True, help="contexts to store, tasks 0 .. N - 1")

    show = commands.add_parser("show", help="print the settings of a run or preset as a TOML file", allow_abbrev=False)
    show.add_argument("what", metavar="FOLDER|EXPERIMENT", help="output folder of a run, or an experiment")
    show.add_argument("--preset", default="cpu", help="as for run, of an experiment")

    listing = commands.add_parser("list", help="what exists: envs, agents, models, ...")
    listing.add_argument("kind", nargs="?", default=None, metavar="KIND")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.add_argument("--env", default=None, help="with agents: who fits this environment, and why not the others")

    for name, text in (
        ("evaluate", "evaluate a run's checkpoints again and rewrite its report"),
        ("report", "draw a run's report again from its results.json"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("folder", help="output folder of a run")
        if name == "report":
            command.add_argument("--csv", default=None, help="write its numbers as one flat table instead; - is stdout")
    verify = commands.add_parser("verify", help="check every byte of a run, of collected data or of checkpoints")
    verify.add_argument("folder", help="output folder of a run, of `icrl collect`, of checkpoints, or a selection")
    inspect = commands.add_parser("inspect", help="show the learning curves of collected histories")
    inspect.add_argument("folder", help="a folder of collected histories")
    inspect.add_argument("--png", default=None, help="also draw them, and a walk through a room, into this file")
    rule = commands.add_parser("filter", help="show what a filter does to collected histories", allow_abbrev=False)
    rule.add_argument("folder", help="a folder of collected histories")
    rule.add_argument("--filter", default="lhf", help="its registered name (default lhf), which brings its own flags")
    rule.add_argument(
        "--seed", default="0", help="of its draws: the selection of training seed 0 of a run of this seed"
    )
    export = commands.add_parser("export", help="write collected histories as a Minari dataset", allow_abbrev=False)
    export.add_argument("folder", help="a folder of collected histories")
    export.add_argument("out", help="folder of the dataset, a new one whose name is its id: NAME-v0")
    export.add_argument("--tasks", default=None, help="FIRST:END, places in the set (default all)")
    export.add_argument("--histories", default=None, help="FIRST:END, of each task (default all)")
    export.add_argument("--author", default="icrl", help="author in the dataset's metadata (default icrl)")
    share = commands.add_parser("export-agent", help="write a pretrained agent into one file", allow_abbrev=False)
    share.add_argument("folder", help="output folder of a run")
    share.add_argument("file", metavar="FILE.safetensors", help="weights and a card; icrl.load_agent reads it")
    share.add_argument("--number", default="0", help="of the model among those of the run (default 0)")
    share.add_argument("--licence", default="not stated", help="under which it is given away, a line on its card")
    taking = commands.add_parser("import", help="store histories that others recorded", allow_abbrev=False)
    taking.add_argument("source", help="a file, or a folder, of a layout in `icrl list importers`")
    taking.add_argument("out", help="folder of the set, a new one")
    taking.add_argument("--format", default="", help="its layout, which brings its own flags (default: by its name)")
    logs = commands.add_parser("evaluate-logs", help="what agents would have earned on an imported log of a bandit")
    logs.add_argument("folder", help="a folder of `icrl import` with propensities")
    logs.add_argument("--agent", default="ucb", help="agents, commas between them; run:FOLDER was pretrained")
    logs.add_argument("--learn", default="0.5", help="share of the rows that they learn from (default 0.5)")
    logs.add_argument("--seed", default="0", help="of their draws")
    speeds = commands.add_parser("bench", help="measure what this machine does in a second", allow_abbrev=False)
    speeds.add_argument(
        "names", nargs="?", default="", metavar="NAME,...", help="which (default all): training, room ..."
    )
    speeds.add_argument("--json", default=None, metavar="FILE", help="also write the rows into this new file")
    for name in READ_FILES:
        commands.choices[name].add_argument(
            "--allow-import", default=None, metavar="MODULE,...", help="modules that files may name; they import none"
        )
    parser.run_parser = run  # type: ignore[attr-defined]
    return parser
