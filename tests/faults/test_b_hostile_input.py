"""B: command lines and calls made by a seeded generator from the parsers' flags and the registries.

Whatever is said, the answer is a result or one line; nothing appears outside of ``--out`` and of ``runs``, and memory
stays small. What a command would compute after all checks is left out: the words are what is tried.
"""

import argparse
import contextlib
import dataclasses
import random
import resource
import shutil
from pathlib import Path

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from small_runs import RUN, command
from trials import trials, verdict

import icrl.gym.environments
from icrl import cli
from icrl.core.commands import top_parser
from icrl.core.errors import IcrlError
from icrl.core.registry import KINDS, agents, environments, experiments, filters, models
from icrl.core.settings import leaves
from icrl.core.tasks import TaskSet
from icrl.datasets.contexts import StoredContexts
from icrl.datasets.histories import StoredHistories
from icrl.datasets.store import StoredRecords
from icrl.datasets.verify import verify
from icrl.evaluation import learning_curves, statistics
from icrl.filters._selection import load_selection
from icrl.gym.environments import make_agent
from icrl.planning import divergence
from icrl.storage.metrics_log import read_jsonl
from icrl.storage.run_folder import read_config

LINES, CALLS = trials(10_000), trials(10_000)
OURS = ("runs", ".cache", ".config")  # the default of --out, and what matplotlib keeps of fonts in the home folder
MEMORY = 2**30  # bytes that all of them may take
PLAIN = ("1", "2", "0.5", "3", "true", "none", "5", "s5", "mamba", "ad", "dpt", "uniform", "ucb,oracle", "smoke")
HOSTILE = ("", "-1", "nan", "inf", "1e999", "9" * 30, "9" * 5000, "1e9", "0x10", "1_000", " 7 ", "٣", "x" * 300)
HOSTILE += ("\x00", "\n", "\x1b[31m", "\ud800", "🙂", "--", "-", "=", "a=b", "[1]", "{}", "None", "../../x", "/", ".")
HOSTILE += ("~nobody-of-this-name/x", "-" * 3000 + "1", "1e-400", "+5", "1:2", "3:1", ":", "a,b", ",,,", "$(id)", "%s")


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands by name."""
    actions = top_parser()._actions
    return next(each.choices for each in actions if isinstance(each, argparse._SubParsersAction))


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings if option not in ("-h", "--help")]


class Lines:
    """Command lines, one after the other."""

    def __init__(self, root: Path, run: Path):
        self.parsers, self.root = commands(), root
        self.settings = {name: list(leaves(experiments[name].presets["smoke"])) for name in experiments}
        self.places = [
            str(run),
            str(next(run.glob("data/source-*"))),
            str(run / "checkpoints"),
            str(run / "config.json"),
        ]
        self.names = [name for kind in KINDS.values() for name in kind]

    def value(self, chance: random.Random) -> str:
        pools = (PLAIN, HOSTILE, self.places, self.names, list(self.parsers), [str(chance.randrange(-3, 10**9))])
        return chance.choice(chance.choices(pools, (6, 6, 1, 3, 1, 2))[0])

    def line(self, chance: random.Random) -> list[str]:
        name = chance.choice([*self.parsers, "run", "run", "run", "collect", "collect", self.value(chance)])
        parser, experiment = self.parsers.get(name), chance.choice(list(self.settings))
        flags = flags_of(parser) if parser else []
        if name in ("run", "collect"):
            flags += [f"--{leaf.replace('_', '-')}" for leaf in chance.choices(self.settings[experiment], k=6)]
        words = [name, experiment if chance.random() < 0.7 else self.value(chance)]
        for _ in range(chance.randrange(5)):
            flag = chance.choice(flags) if flags and chance.random() < 0.9 else self.value(chance)
            if flag.startswith("--out") or flag in ("--png", "--json"):
                continue  # the first two are said once, below: where files may be
            value, form = self.value(chance), chance.randrange(4)
            words += [f"{flag}={value}"] if form == 0 else [flag] if form == 1 else [flag, value]
        if name in ("run", "collect", "evaluate", "report", "export", "inspect") and chance.random() < 0.8:
            words += ["--out" if name in ("run", "collect") else "--png", str(self.root / "out" / chance.choice("abc"))]
        return words + (["--preset", "smoke"] if name in ("run", "collect") and chance.random() < 0.8 else [])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("b") / "run"
    assert cli.main([*RUN, "--out", str(folder)]) == 0
    return folder


def nothing(*_args, **_settings):
    return None


@pytest.fixture
def no_work(monkeypatch):
    """What comes after all checks."""
    for name in ("execute", "evaluate", "report"):
        monkeypatch.setattr(f"icrl.recipes.run.{name}", nothing)
    for name in experiments:
        monkeypatch.setattr(experiments[name], "collect", nothing)
    monkeypatch.setattr("icrl.recipes.bench.seconds_of", lambda load: (0.0, 1.0))


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.nightly
def test_b_command_lines(run, tmp_path, monkeypatch, no_work):
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here, tmp_path / "out"):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    lines, before, faults = Lines(tmp_path, run), peak(), []
    whole = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    for number in range(LINES):
        words = lines.line(random.Random(number))
        try:
            code, said = command(*words)
        except SystemExit as end:
            code, said = end.code, ""
        except Exception as error:
            faults.append((words, repr(error)))
            continue
        if code and (code not in (2, 3, 4, 5, 6) or said.count("\n") != 1 or len(said) > 2000):
            faults.append((words, code, said[-500:]))
        strangers = [path for folder in (home, here) for path in folder.iterdir() if path.name not in OURS]
        if strangers:
            faults.append((words, [path.name for path in strangers]))
            for path in strangers:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for folder in (tmp_path / "out", here / "runs"):
            shutil.rmtree(folder, ignore_errors=True)
    changed = [path for path, data in whole.items() if path.read_bytes() != data]
    faults += [("changed", path) for path in changed]
    print(f"\n+{(peak() - before) / 2**20:.0f} MiB")
    assert peak() - before <= MEMORY
    verdict("B command lines", LINES, faults)


# --- Calls ---

ANY = [0, 1, -1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), True, None, "", "x", "\x00"]
ANY += [[], [1], [[1], [1, 2]], {}, {"a": 1}, (), (1, 2), set(), object(), np.nan, np.float32(1), np.int64(-5), b"x"]
ANY += [np.zeros(0), np.ones(()), np.ones(3), np.ones((2, 2)), np.array(["x"]), np.array([None]), jnp.ones(1), 1j]
ANY += [np.array([np.nan, 1.0]), np.ones((3, 4, 5)), range(3), slice(None), slice("a", 3), Ellipsis, Path("x"), "../x"]
PATHS = ["", "x", "\x00", "../x", "\ud800", "x" * 5000, Path("x"), "/", "."]


def few(count):
    """``count``, unless it would only take long."""
    return 3 if type(count) is int and count > 99 else count


class Calls:
    """Calls of the public interface with arguments of any kind."""

    def __init__(self, run: Path):
        self.env = gymnasium.make("icrl:icrl/GaussianBandit-v0")
        self.vector = gymnasium.make_vec("icrl:icrl/DarkRoom-v0", 2)
        self.agent, self.bandit = make_agent("ucb"), environments["GaussianBandit-v0"]()
        self.tasks, self.room, self.run = TaskSet.draw(self.bandit, 0, "b", 4), environments["DarkRoom-v0"](), run
        for each in (self.env, self.vector, self.agent):
            each.reset(seed=0)
        self.readers = (icrl.load_agent, verify, StoredRecords, StoredHistories, StoredContexts)
        self.readers += (read_config, read_jsonl)

    def any(self, chance: random.Random):
        return chance.choice(ANY)

    def settings(self, chance: random.Random, cls) -> dict:
        fields = [*(each.name for each in dataclasses.fields(cls)), "unknown"]
        return {chance.choice(fields): self.any(chance) for _ in range(chance.randrange(1, 4))}

    def call(self, chance: random.Random):
        """(what, what to do)."""
        a, b, c = (self.any(chance) for _ in range(3))
        kind = chance.choice([environments, filters, models])
        cls = kind[chance.choice(list(kind))]
        cls = getattr(cls, "Config", cls)
        agent, env = chance.choice(list(agents)), chance.choice(("GaussianBandit-v0", "RiverSwim-v0", "DarkRoom-v0"))
        given, more = self.settings(chance, cls), self.settings(chance, agents[agent])
        known = {name: value for name, value in given.items() if name != "unknown" and name in cls.__dataclass_fields__}
        known = {name: value for name, value in known.items() if cls.__dataclass_fields__[name].init}
        path = chance.choice([*PATHS, self.run, self.run / "data", self.run / "checkpoints", str(self.run)])
        return chance.choice(
            [
                (f"{cls.__name__}(**{known})", lambda: cls(**known)),
                (f"make_agent({agent!r}, {env!r}, None, **{more})", lambda: make_agent(agent, env, None, **more)),
                (f"make_agent({a!r}, {b!r}, {c!r})", lambda: make_agent(a, b, c)),
                (f"make({env!r}, {more})", lambda: icrl.gym.environments.build_environment(env, more)),
                (f"registry[{a!r}]", lambda: kind[a]),
                (f"env.reset(seed={a!r}, options={b!r})", lambda: self.env.reset(seed=a, options=b)),
                (f"env.step({a!r})", lambda: self.env.step(a)),
                (f"vector.reset(seed={a!r}, options={b!r})", lambda: self.vector.reset(seed=a, options=b)),
                (f"vector.step({a!r})", lambda: self.vector.step(a)),
                (f"agent.act({a!r})", lambda: self.agent.act(a)),
                (f"agent.reset({a!r}, {b!r}, {c!r})", lambda: make_agent("ucb").reset(a, b, c)),
                (f"observe({a!r}, {b!r}, {c!r})", lambda: self.agent.observe(a, b, c, a, b, c)),
                (f"observe(reward={a!r})", lambda: self.agent.observe(np.ones(1), 0, a, np.ones(1), False, b)),
                (f"predict({a!r}, {b!r})", lambda: self.agent.predict(a, b)),
                (f"tasks[{a!r}]", lambda: self.tasks[a]),
                (f"tasks.split({a!r})", lambda: self.tasks.split(a)),
                (f"tasks.repeat({a!r})", lambda: self.tasks.repeat(few(a))),
                (f"TaskSet.of(room, {a!r})", lambda: TaskSet.of(self.room, a)),
                (f"TaskSet.draw({a!r}, {b!r})", lambda: TaskSet.draw(self.bandit, a, "b", few(b), c)),
                (f"interval({a!r}, {b!r})", lambda: statistics.interval(a, b)),
                (f"ratio_interval({a!r}, {b!r})", lambda: statistics.ratio_interval(a, b)),
                (f"trailing_mean({a!r}, {b!r})", lambda: learning_curves.trailing_mean(a, b)),
                (f"lai_robbins({a!r})", lambda: divergence.lai_robbins_bernoulli(a)),
                (f"read {path!r}", lambda: chance.choice(self.readers)(path)),
                (f"load_agent({path!r}, {a!r})", lambda: icrl.load_agent(path, a)),
                (f"load_selection({path!r}, {a!r})", lambda: load_selection(path, a)),
            ]
        )


@pytest.mark.nightly
def test_b_calls(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls, before, faults = Calls(run), peak(), []
    for number in range(CALLS):
        what, act = calls.call(random.Random(number))
        try:
            with contextlib.suppress(ResetNeeded):
                act()
        except IcrlError as error:
            if "\n" in str(error):
                faults.append((what, str(error)))
        except Exception as error:
            faults.append((what, repr(error)[:300]))
    print(f"\n+{(peak() - before) / 2**20:.0f} MiB")
    assert list(tmp_path.iterdir()) == []
    assert peak() - before <= MEMORY
    verdict("B calls", CALLS, faults)
