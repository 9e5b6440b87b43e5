"""A run in parts: any part may be killed, repeated, or come late, and the run ends in the digits of one process.

The kills of the night are made by this file as a script, which forks the commands.
"""

import itertools
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from crash_points import intercepted
from forked_commands import finished, forked, import_what_all_need, told_by
from small_runs import RUN, command
from test_f1_kills import of_run
from trials import trials, verdict

from icrl.core.errors import InputError, LockedError
from icrl.recipes import gathering
from icrl.recipes.run import reopen
from icrl.storage import lock
from icrl.storage.lock import CONFIG, LOCK, RunLock, patiently
from icrl.storage.publish import temporary_name

KILLS, PARTS = trials(20), 8
MODELS = [*RUN, "--train-seeds", "2", "--eval-tasks", "4", "--vary", "filter=keep-all,lhf"]  # four
NIGHT = [*RUN, "--train-seeds", "4", "--vary", "filter=keep-all,lhf"]  # eight


def part(folder: Path, text: str, *words: str) -> tuple[int, str]:
    return command(*MODELS, "--out", folder, "--part", text, *words)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts") / "whole"
    assert command(*MODELS, "--out", folder)[0] == 0
    return folder


@pytest.fixture(scope="module")
def two_of_three(tmp_path_factory):
    """A shared folder in which parts 1 and 3 of 3 are done."""
    folder = tmp_path_factory.mktemp("parts") / "shared"
    assert part(folder, "1/3")[0] == part(folder, "3/3")[0] == 0
    return folder


@pytest.fixture
def shared(two_of_three, tmp_path):
    return Path(shutil.copytree(two_of_three, tmp_path / "shared"))


@pytest.fixture(scope="module")
def trained(two_of_three, tmp_path_factory):
    """One in which all are, as it is when the last is killed before it gathers."""
    folder = Path(shutil.copytree(two_of_three, tmp_path_factory.mktemp("parts") / "trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "_finished", lambda run, models: None)
        assert part(folder, "2/3")[0] == 0
    return folder


# --- What it ends in ---


def test_parts_end_in_the_digits_of_one_run(shared, whole):
    code, said = command("verify", shared)
    assert code == 6 and "missing: part 2 of 3 (1 of 4 models)" in said
    before = sorted(shared.rglob("*"))
    assert part(shared, "1/3")[0] == 0  # again: nothing is done
    assert sorted(shared.rglob("*")) == before and not (shared / "results.json").exists()
    assert part(shared, "2/3")[0] == 0
    assert of_run(shared) == of_run(whole)
    assert command("verify", shared)[0] == 0 and not (shared / "parts").exists()
    results = (shared / "results.json").read_bytes()
    assert part(shared, "3/3")[0] == 0  # comes late
    assert (shared / "results.json").read_bytes() == results


class Died(BaseException):
    """In place of a kill."""


def gathered(folder: Path) -> tuple[dict, list[str]]:
    """Rows and states, and which files there are."""
    rows = (folder / "metrics.jsonl").read_bytes()
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    return {"rows": rows}, sorted(files)


@pytest.mark.parametrize("points", [10, pytest.param(1000, marks=pytest.mark.nightly)])
def test_a_death_at_any_change_of_the_disk_while_parts_are_gathered_loses_nothing(trained, tmp_path, points):
    def gather(folder: Path) -> None:
        run = reopen(folder)
        gathering.gather(run, gathering.experiments[run.experiment].models(run.settings))

    def dying_at(k: int):
        calls = itertools.count(1)

        def before(name, original, args):
            if next(calls) == k:
                raise Died

        return before

    expected, total = Path(shutil.copytree(trained, tmp_path / "expected")), 0

    def counted(name, original, args):
        nonlocal total
        total += 1

    with intercepted(counted):
        gather(expected)
    assert total > 20
    for k in range(1, total + 1, max(1, total // points)):
        folder = Path(shutil.copytree(trained, tmp_path / "killed"))
        with pytest.raises(Died), intercepted(dying_at(k)):
            gather(folder)
        code, said = command("verify", folder)
        assert code == 6 and "missing: part" not in said, (k, said)
        gather(folder)
        assert gathered(folder) == gathered(expected), k
        shutil.rmtree(folder)


def test_what_was_gathered_but_not_evaluated_goes_on(trained, tmp_path, whole, monkeypatch):
    folder = Path(shutil.copytree(trained, tmp_path / "shared"))
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(gathering, "execute", lambda run: (_ for _ in ()).throw(Died))
        part(folder, "3/3")
    assert not (folder / "parts").exists() and command("verify", folder)[0] == 6
    assert part(folder, "1/3")[0] == 0
    assert of_run(folder) == of_run(whole)


# --- Who is refused, and who waits ---


def refused(answer: tuple[int, str], code: int, *words: str) -> None:
    assert answer[0] == code and answer[1].count("\n") == 1, answer
    assert all(word in answer[1] for word in words), answer[1]


def test_each_refusal_is_one_line(shared, tmp_path):
    new = tmp_path / "new"
    refused(part(new, "1/5"), 2, "part: got '1/5'", "at most 4 parts, as many as the run has models")
    for text in ("0/3", "4/3", "1", "1/", "a/b", "1/2/3", "\u0661/2", "1/99999999999"):
        refused(part(new, text), 2, "part: got", "allowed: K/N")
    tournament = ("run", "neural-bandits", "--preset", "smoke", "--out", new, "--part", "1/2")
    refused(command(*tournament), 2, "part: got '1/2'", "neural-bandits is not a recipe")
    assert not new.exists()
    refused(part(shared, "1/2"), 2, "part: got '1/2'", "begun in so many parts", "K/3")
    refused(part(shared, "2/3", "--seed", "7"), 2, "seed (stored 0, given 7)")
    refused(part(shared, "2/3", "--learning-rate", "0.5"), 2, "other settings", "given 0.5")
    refused(command(*MODELS, "--out", shared, "--resume"), 2, "in parts: go on with --part K/N")
    refused(command(*MODELS, "--out", shared), 2, "in parts: go on with --part K/N")


def test_a_run_that_was_begun_whole_is_not_continued_in_parts(whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "seed-3")
    refused(part(folder, "1/3"), 2, "not in parts", "--resume")
    assert not (folder / "parts").exists()


def test_a_second_process_of_the_same_part_learns_who_holds_it(shared):
    with RunLock(shared / "parts" / "1-of-3", "ad part 1/3"):
        refused(part(shared, "1/3"), 4, f"pid {os.getpid()} on ", "run ad part 1/3", "1-of-3")


def test_a_part_that_comes_while_the_run_is_gathered_learns_who_does_it(shared, monkeypatch):
    monkeypatch.setattr(gathering, "patiently", lambda act: patiently(act, 0.0))
    with RunLock(shared, "ad gathering"):
        refused(part(shared, "2/3"), 4, f"pid {os.getpid()} on ", "run ad gathering")


def test_a_part_that_comes_while_the_run_is_evaluated_is_done(whole, monkeypatch):
    monkeypatch.setattr(gathering, "patiently", lambda act: patiently(act, 0.0))
    with RunLock(whole, "ad"):
        assert part(whole, "2/3")[0] == 0


def test_a_part_is_done_though_another_process_writes_the_report(trained, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(trained, tmp_path / "shared"))
    monkeypatch.setattr(gathering, "gather", lambda run, models: RunLock(folder, "late").refuse_if_held())
    monkeypatch.setattr(gathering, "execute", lambda run: RunLock(folder, "late").__enter__())
    monkeypatch.setattr(gathering, "patiently", lambda act, seconds=0.0: patiently(act, 0.0))
    finish = gathering._finished

    def while_held(run, models):
        with RunLock(folder, "ad gathering"):
            return finish(run, models)

    monkeypatch.setattr(gathering, "_finished", while_held)
    assert part(folder, "1/3")[0] == 0


def test_whoever_needs_a_lock_for_a_moment_waits(tmp_path):
    with pytest.raises(LockedError), RunLock(tmp_path, "first"):
        patiently(lambda: RunLock(tmp_path, "second").__enter__(), 0.3)
    held = RunLock(tmp_path, "first").__enter__()
    threading.Timer(0.5, held.__exit__).start()
    patiently(lambda: RunLock(tmp_path, "second").__enter__(), 30.0).__exit__()


def test_a_writer_that_begins_below_while_the_folder_is_swept_keeps_its_files(tmp_path, monkeypatch):
    own, below = lock._own_folders, tmp_path / "data" / "set"
    below.mkdir(parents=True)
    stray, fresh = temporary_name(below.parent), temporary_name(below)
    stray.touch()

    def begun_meanwhile(folder, depth):
        yield from own(folder, depth)
        (below / LOCK).touch()
        fresh.touch()

    monkeypatch.setattr(lock, "_own_folders", begun_meanwhile)
    with RunLock(tmp_path, "opening"):
        assert fresh.exists() and not stray.exists()


def test_a_run_that_another_part_begins_at_the_same_time_is_gone_on_with(tmp_path):
    calls = []

    def begin():
        calls.append(1)
        if len(calls) == 1:
            (tmp_path / CONFIG).touch()
            raise InputError("already holds a run")
        if len(calls) == 3:
            raise InputError("other settings")
        return "the run"

    assert gathering._opened(begin, tmp_path) == "the run" and len(calls) == 2
    with pytest.raises(InputError, match="other settings"):
        gathering._opened(begin, tmp_path)


def test_nothing_is_moved_while_a_part_is_held(trained, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(trained, tmp_path / "shared"))
    before, run = sorted(folder.glob("parts/*/checkpoints/*")), reopen(folder)
    monkeypatch.setattr(gathering, "patiently", lambda act: patiently(act, 0.0))
    with RunLock(folder / "parts" / "3-of-3", "ad part 3/3"), pytest.raises(LockedError, match="ad part 3/3"):
        gathering.gather(run, gathering.experiments[run.experiment].models(run.settings))
    assert sorted(folder.glob("parts/*/checkpoints/*")) == before and not (folder / "checkpoints").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("metrics.jsonl", "metrics.jsonl: "), ("config.json", "config.json"), ("_METADATA", "step-")]
)
def test_verify_finds_damage_in_a_part(shared, name, words):
    path = sorted((shared / "parts" / "1-of-3").rglob(name))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    refused(command("verify", shared), 3, words)


# --- By night: eight processes, killed at random ---


def where(folder: Path) -> str:
    """What the run is at."""
    if (folder / "results.json").exists():
        return "report"
    if (folder / "evaluation").exists() or (folder / "checkpoints").exists():
        return "gathering"
    return "training" if any(folder.glob("parts/*/metrics.jsonl")) else "beginning"


class Parts:
    """The processes of the parts of one run."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.faults = root, root / "shared", list[str]()
        self.alive: dict[int, int] = {}  # process id to the part's number

    def begin(self, number: int) -> None:
        words = (*NIGHT, "--out", str(self.folder), "--part", f"{number}/{PARTS}")
        self.alive[forked(words, self.root / f"log-{number}")] = number

    def collect(self) -> None:
        """Take leave of those that have ended."""
        for child in list(self.alive):
            if (done := os.waitpid(child, os.WNOHANG))[0]:
                self._ended(self.alive.pop(child), os.waitstatus_to_exitcode(done[1]))

    def kill(self, chance: random.Random) -> dict:
        """Kill one, and begin its part again."""
        child = chance.choice(sorted(self.alive))
        number, at = self.alive.pop(child), where(self.folder)
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        self.begin(number)
        return {"part": number, "at": at, "at_work": killed}

    def _ended(self, number: int, code: int) -> None:
        """0, or 4 while another one gathers or, which takes as long, draws the report."""
        said = (self.root / f"log-{number}").read_text()
        if code and not (code == 4 and (self.folder / "checkpoints").exists()):
            self.faults.append(f"part {number} ended with {code}: {said[-500:]}")


def run_in_parts(parts: Parts, chance: random.Random, pause: float, most: int) -> int:
    """Let all parts run until the report is there, and kill up to ``most``, each told in a line; how many were."""
    kills = 0
    for number in range(1, PARTS + 1):
        parts.begin(number)
    while True:
        time.sleep(chance.random() * pause)
        parts.collect()
        if parts.alive and kills < most:
            told = parts.kill(chance)
            kills += told["at_work"]
            print(json.dumps(told), flush=True)
        elif not parts.alive and (parts.folder / "views.json").exists():
            return kills
        elif not parts.alive:
            parts.begin(chance.randint(1, PARTS))


def child(root: Path, count: int) -> None:
    """Runs in parts until ``count`` have been killed; what has become of each run."""
    import_what_all_need()
    root.mkdir(parents=True, exist_ok=True)
    for _ in range(2):  # the second finds its programs compiled
        shutil.rmtree(root / "whole", ignore_errors=True)
        began = time.monotonic()
        assert finished((*NIGHT, "--out", str(root / "whole")), root / "log") == 0, (root / "log").read_text()
        duration = time.monotonic() - began
    whole, chance, parts, kills = of_run(root / "whole"), random.Random(count), Parts(root), 0
    while kills < count:
        kills += run_in_parts(parts, chance, duration, count - kills)
        if finished(("verify", str(parts.folder)), root / "log"):
            parts.faults.append((root / "log").read_text()[-500:])
        if of_run(parts.folder) != whole:
            parts.faults.append("ends differently")
        shutil.rmtree(parts.folder)
        print(json.dumps({"faults": parts.faults}), flush=True)


@pytest.mark.nightly
def test_eight_parts_killed_at_random_end_in_the_digits_of_one_run(tmp_path):
    told = told_by(__file__, tmp_path, KILLS)
    kills, runs = [each for each in told if "at" in each], [each for each in told if "faults" in each]
    at = [each["at"] for each in kills if each["at_work"]]
    print(f"\n{len(at)} of {len(kills)} were at work: {dict(Counter(at))}")
    assert len(at) == KILLS
    verdict(f"parts of {len(runs)} runs", KILLS, runs[-1]["faults"])


if __name__ == "__main__":
    child(Path(sys.argv[1]), int(sys.argv[2]))
