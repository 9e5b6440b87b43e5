"""The pages of the documentation as what they ask a reader to run.

A page is read top to bottom: its blocks of code run in one folder and one Python session, as a reader would run them.

- ``python`` blocks run; one with ``title="FILE.py"`` is written to that file, which later blocks and commands import.
- ``bash`` blocks are read by bash itself, with loops, variables and redirections. There ``icrl`` and the commands of
  ``STUBS`` only write down their words, which are handled here.
- ``icrl run`` and ``icrl collect`` run at smoke size: in preset ``smoke``, whatever preset the page names, with the
  settings of ``TINY`` that the line leaves open. ``dpt-bandit`` without a preset keeps the five arms and 200 pulls of
  its default one, which loops on the pages play.
- Of a run of several processes, process 0 runs, alone.
- The commands of ``STUBS`` do not run: extras and scripts that they name must exist.
"""

import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
STUBS = ("pip", "python", "tensorboard", "mkdocs", "pytest", "source")
TINY = {
    "train-steps": "2", "log-every": "1", "save-every": "2", "warmup-steps": "0", "batch-size": "8", "eval-tasks": "4",
    "offline-tasks": "4", "offline-competitors": "", "competitors": "uniform", "tune-tasks": "4", "num-tasks": "2",
    "environments": "GaussianBandit-v0,RiverSwim-v0", "agents": "uniform,ucb",
}  # fmt: skip
OF_ITS_OWN = {  # by experiment
    "dpt-bandit": {"num-arms": "5", "horizon": "200"},
    "task-diversity-bandit": {"competitors": "thompson-bernoulli"},  # without which it cannot be
}

_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)
_TITLE = re.compile(r'title="([\w.]+)"')


class Block(NamedTuple):
    """A block of code of a page."""

    language: str
    title: str  # the file that it is; "" if none
    code: str


def all_pages() -> list[Path]:
    """README and the pages of the site."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """Its path below the root of the tree."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The blocks that run, in order."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    titles = [_TITLE.search(rest) for _, rest, _ in found]
    made = [Block(each[0], title[1] if title else "", each[2]) for each, title in zip(found, titles, strict=True)]
    return [block for block in made if block.language in ("python", "bash")]


def commands(code: str, folder: Path) -> list[list[str]]:
    """The words of each stubbed command in the order in which bash would run them in ``folder``.

    ``icrl show`` runs at once, as its output is redirected; other files that are redirected into are made, empty.
    """
    listed = folder / ".commands"
    listed.write_bytes(b"")
    record = 'printf "%s\\0" "$@" "$LAST" >> "$COMMANDS"'  # one write, so that commands with & behind them do not mix
    stubs = [f'{name}() {{ set -- {name} "$@"; {record}; }}' for name in STUBS]
    stubs.append('srun() { while [ "$1" != icrl ]; do shift; done; "$@"; }')
    show = 'icrl() { if [ "$1" = show ]; then "$PYTHON" -m icrl "$@"; else set -- icrl "$@"; ' + record + "; fi; }"
    known = {"COMMANDS": str(listed), "LAST": "\n", "PYTHON": sys.executable, "SLURM_ARRAY_TASK_ID": "7"}
    script = "\n".join([*stubs, show, code])
    done = subprocess.run(
        ["bash", "-eu", "-c", script],
        cwd=folder,
        env={**os.environ, **known},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"bash: {done.stderr}\n{code}"
    return [line.split("\0") for line in listed.read_text(encoding="utf-8").split("\0\n\0") if line]


def at_smoke_size(words: list[str]) -> list[str]:
    """The words behind ``icrl`` of a command as they run in a test; only ``run`` and ``collect`` change."""
    if words[0] not in ("run", "collect"):
        return words
    plays_default = words[1] != "dpt-bandit" or "--preset" not in words
    known, sizes = _flags(words), TINY | (OF_ITS_OWN.get(words[1], {}) if plays_default else {})
    added = {f"--{name}": value for name, value in sizes.items() if name in known}
    added |= {"--preset": "smoke"}
    plain = list(words)
    if "--preset" in plain:
        plain[plain.index("--preset") + 1] = "smoke"
    if words[0] == "collect":
        plain[plain.index("--num-tasks") + 1] = "4"
    return [*plain, *(word for flag, value in added.items() if flag not in plain for word in (flag, value))]


def alone(words: list[str]) -> list[str] | None:
    """The words of process 0 without its place among others; None: they are those of another process."""
    from icrl.core.places import place_of

    found, rest = {}, []
    pairs = iter(words)
    for word in pairs:
        if word in ("--coordinator", "--process", "--processes"):
            found[word[2:]] = next(pairs)
        else:
            rest.append(word)
    if found.get("processes") == "auto":
        return rest
    place = place_of(*(found.get(name) for name in ("coordinator", "process", "processes")))
    return rest if place is None or place.number == 0 else None


def _flags(words: list[str]) -> set[str]:
    """Names of the flags of the experiment that the words run, with those of the parts that they choose."""
    from icrl.core.flags import read_toml
    from icrl.core.registry import experiments
    from icrl.core.settings import chosen, leaves

    pairs = {flag[2:].replace("-", "_"): value for flag, value in itertools.pairwise(words) if flag.startswith("--")}
    name = read_toml(Path(pairs["config"]))["experiment"] if "config" in pairs else words[1]
    return {leaf.replace("_", "-") for leaf in leaves(chosen(experiments[name].presets["smoke"], pairs))}


def check_stub(words: list[str]) -> None:
    """Refuse a command that does not run here if what it names does not exist."""
    if words[0] == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = set(re.findall(r"\.\[([\w,]+)\]", " ".join(words)))
        unknown = {name for each in extras for name in each.split(",")} - set(project["optional-dependencies"])
        assert not unknown, f"{words}: no extra {unknown}"
    elif words[0] in ("python", "pytest"):
        for word in words[1:]:
            assert "/" not in word or word.startswith("runs/") or (ROOT / word).exists(), f"{words}: no {word}"


def run_page(page: Path, folder: Path, run: Callable[[list[str]], None]) -> None:
    """Run the blocks of a page in ``folder``; ``run`` runs the words behind ``icrl``."""
    session: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.title:
            (folder / block.title).write_text(block.code, encoding="utf-8")
        if block.language == "python" and not block.title:
            exec(compile(block.code, page.name, "exec"), session)
        elif block.language == "bash":
            for words in commands(block.code, folder):
                if words[0] == "icrl":
                    if (own := alone(words[1:])) is not None:
                        run(own)
                else:
                    check_stub(words)
