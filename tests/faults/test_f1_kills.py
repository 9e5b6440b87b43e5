"""F1, F2, F4, F5, F15, F17: real SIGKILLs at random moments of every command that writes; what goes on ends alike.

The kills are made by this file as a script, which forks the commands.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forked_commands import finished, forked, import_what_all_need, told_by
from trials import trials, verdict

KILLS, RESUMES = trials(300), trials(60)
TRAIN_STEPS, SAVE_EVERY = 12, 3
BRIEF = ("--preset", "smoke", "--log-every", "1", "--warmup-steps", "1", "--competitors", "uniform")
BRIEF += ("--train-steps", str(TRAIN_STEPS), "--save-every", str(SAVE_EVERY))
COLLECT = ("collect", "ad", "--preset", "smoke", "--num-tasks", "6")
GROW = ("collect", "dpt", "--preset", "smoke", "--num-tasks")  # only contexts are made longer
ACKNOWLEDGED = 5  # tasks of a set that is made longer
MODELS = {  # of F4: what is trained
    "distillation": ("run", "ad", *BRIEF),
    "transformer": ("run", "dpt", *BRIEF),
    "s5": ("run", "dpt", *BRIEF, "--model", "s5"),
    "mamba": ("run", "dpt", *BRIEF, "--model", "mamba"),
    "moe": ("run", "dpt", *BRIEF, "--moe", "token-task"),
    "seeds together": ("run", "dpt", *BRIEF, "--train-seeds", "3", "--seeds-together", "3"),  # between two saves, too
    "rl2": ("run", "rl2", *BRIEF, "--rollout-steps", "10"),  # half a trial: checkpoints hold environments and memories
}


def killed(words: tuple[str, ...], log: Path, seconds: float) -> bool:
    """Whether the command was still at work after so many seconds, when it was killed."""
    child = forked(words, log)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


# --- What is compared ---


def of_run(folder: Path) -> Any:
    """Results, rows and the states of checkpoints, without what tells time."""
    from icrl.storage.metrics_log import OF_MACHINE, read_jsonl
    from icrl.storage.publish import verify_folder

    results = json.loads((folder / "results.json").read_text())
    rows = read_jsonl(folder / "metrics.jsonl")
    saves = {step.name: verify_folder(step)["state_sha256"] for step in folder.glob("checkpoints/*/step-*")}
    return (
        {key: value for key, value in results.items() if key not in ("seconds", "sha256", "versions")},
        [{key: value for key, value in row.items() if key not in (*OF_MACHINE, "crc")} for row in rows],
        saves,
        sorted(path.name for path in folder.rglob(".icrl-tmp-*")),
    )


def of_set(folder: Path) -> Any:
    from icrl.datasets.store import StoredRecords

    stored = StoredRecords(folder)
    return stored.digest, stored.num_tasks, sorted(path.name for path in folder.rglob(".icrl-tmp-*"))


class Stage(NamedTuple):
    """One command that is killed."""

    words: tuple[str, ...]  # --out or the folder comes behind them
    outcome: Callable[[Path], Any]
    before: tuple[str, ...] = ()  # the command that makes what it begins with
    again: tuple[str, ...] = ()  # what is added when it goes on


def placed(words: tuple[str, ...], place: Path) -> tuple[str, ...]:
    return (*words, "--out", str(place)) if words[0] in ("run", "collect") else (*words, str(place))


RUN = MODELS["distillation"]
STAGES = {
    "collect": Stage(COLLECT, of_set),
    "grow": Stage((*GROW, "12"), of_set, before=(*GROW, str(ACKNOWLEDGED))),
    "run": Stage(RUN, of_run, again=("--resume",)),
    "evaluate": Stage(("evaluate",), of_run, before=RUN),
    "report": Stage(("report",), of_run, before=RUN),
    **{f"model {name}": Stage(words, of_run, again=("--resume",)) for name, words in MODELS.items()},
}


def lost_steps(place: Path) -> Iterator[str]:
    """F5: a kill costs at most the steps since the last multiple of the interval."""
    from icrl.storage import checkpoints
    from icrl.storage.metrics_log import read_jsonl

    rows = read_jsonl(place / "metrics.jsonl") if (place / "metrics.jsonl").exists() else []
    reached = max((row["step"] for row in rows), default=0)
    saved = max(checkpoints.steps(place / "checkpoints" / "seed-0"), default=0)
    if saved < (reached - 1) // SAVE_EVERY * SAVE_EVERY:
        yield f"step {reached} was reached, {saved} is the last that was saved"


def audit(stage: Stage, place: Path, log: Path) -> Iterator[str]:
    """What is wrong with what a kill has left: nothing may be damaged, nothing acknowledged may be gone."""
    code = finished(("verify", str(place)), log)
    begun = (place / "config.json").exists() or (place / "card.json").exists()
    if code not in ((0, 6) if begun else (2,)):
        yield f"verify ends with {code}: {log.read_text()[-300:]}"
    if stage.outcome is of_run:
        yield from lost_steps(place)
    elif stage.before and (has := int(re.search(r"([\d,]+)( of [\d,]+)? tasks", log.read_text())[1])) < ACKNOWLEDGED:
        yield f"{ACKNOWLEDGED - has} acknowledged tasks are gone"


def trial(stage: Stage, root: Path, whole: Any, duration: float, chance: random.Random) -> tuple[bool, list[str]]:
    """Whether a command was killed at work, and what went wrong."""
    place, log = root / "place", root / "log"
    if stage.before:
        shutil.copytree(root / "before", place)
    at_work = killed(placed(stage.words, place), log, chance.random() * duration)
    faults = list(audit(stage, place, log)) if place.exists() else []
    code = finished((*placed(stage.words, place), *stage.again), log)
    if code:
        faults.append(f"going on ends with {code}: {log.read_text()[-500:]}")
    elif stage.outcome(place) != whole:
        faults.append("ends differently")
    shutil.rmtree(place, ignore_errors=True)
    return at_work, faults


def child(name: str, root: Path, count: int) -> None:
    """Kill one stage ``count`` times, and tell of each trial in a line."""
    import_what_all_need()
    stage, log = STAGES[name], root / "log"
    root.mkdir(parents=True, exist_ok=True)
    if stage.before:
        assert finished(placed(stage.before, root / "before"), log) == 0, log.read_text()
    for _ in range(2):  # the second finds its programs compiled
        shutil.rmtree(root / "whole", ignore_errors=True)
        if stage.before:
            shutil.copytree(root / "before", root / "whole")
        began = time.monotonic()
        assert finished(placed(stage.words, root / "whole"), log) == 0, log.read_text()
        duration = time.monotonic() - began
    whole = stage.outcome(root / "whole")
    for number in range(count):
        at_work, faults = trial(stage, root, whole, duration, random.Random(f"{name} {number}"))
        print(json.dumps({"stage": name, "trial": number, "at_work": at_work, "faults": faults}), flush=True)


def kills(name: str, count: int, root: Path) -> None:
    told = told_by(__file__, name, root, count)
    print(f"\n{name}: {sum(each['at_work'] for each in told)} of {len(told)} were at work", flush=True)
    assert len(told) == count
    verdict(f"kills of {name}", count, [each for each in told if each["faults"]])


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in STAGES if not name.startswith("model ")])
def test_f1_f2_f5_a_kill_loses_nothing(name, tmp_path):
    kills(name, max(1, KILLS // 5), tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in STAGES if name.startswith("model ")])
def test_f4_f15_f17_what_goes_on_ends_in_the_same_bits(name, tmp_path):
    kills(name, max(1, RESUMES // len(MODELS)), tmp_path)


if __name__ == "__main__":
    child(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
