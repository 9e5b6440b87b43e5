"""F9: two processes that begin, go on, or collect in one folder at once: one wins, the other is told who holds it.

The races are made by this file as a script, which forks the commands.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from forked_commands import ended, finished, forked, import_what_all_need, told_by
from small_runs import RUN, results
from trials import trials, verdict

RACES = trials(60)
SECONDS = 5  # in which the loser has ended
LAGS = (0.0, 0.0, 0.01, 0.1, 0.5)  # seconds between the two
KINDS = ("new", "resume", "collect")
COLLECT = ("collect", "ad", "--preset", "smoke", "--num-tasks", "6")
HOLDER = re.compile(r"^icrl: \S+: pid \d+ on \S+, run [^,]+, since \S+, is writing here; wait for it, or use another")


def race(words: tuple[str, ...], lag: float, root: Path) -> list[tuple[int, str, float]]:
    """(exit code, what it said, seconds) of both, the one that ended first first."""
    at, logs = time.monotonic() + 0.5, {}
    for number, begin in enumerate((at, at + lag)):
        log = root / f"log-{number}"
        logs[forked(words, log, lambda begin=begin: time.sleep(max(0.0, begin - time.monotonic())))] = log, begin
    both = []
    while logs:
        number, status = os.wait()
        log, begin = logs.pop(number)
        both.append((os.waitstatus_to_exitcode(status), log.read_text(), time.monotonic() - begin))
    return both


def begun_and_killed(words: tuple[str, ...], place: Path, log: Path) -> None:
    """Leave a run that has begun."""
    number = forked(words, log)
    while not (place / "config.json").exists():
        time.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    ended(number)


def trial(kind: str, lag: float, root: Path) -> tuple[float, list[str]]:
    """Seconds until the loser ended, and what went wrong."""
    place, faults = root / "place", []
    words = (*(COLLECT if kind == "collect" else RUN), "--out", str(place))
    if kind == "resume":
        begun_and_killed(words, place, root / "log")
        words += ("--resume",)
    (code, said, seconds), (won, winner_said, _) = race(words, lag, root)
    if code != 4 or not HOLDER.search(said) or seconds > SECONDS:
        faults.append(f"the loser ended with {code} after {seconds:.1f} s: {said[-500:]}")
    if won:
        faults.append(f"the winner ended with {won}: {winner_said[-500:]}")
    elif finished(("verify", str(place)), root / "log"):
        faults.append(f"mixed: {(root / 'log').read_text()[-500:]}")
    elif kind != "collect" and results(place) != results(root / "whole"):
        faults.append("ends differently")
    shutil.rmtree(place)
    return seconds, faults


def child(root: Path, count: int) -> None:
    import_what_all_need()
    assert finished((*RUN, "--out", str(root / "whole")), root / "log") == 0, (root / "log").read_text()
    for number in range(count):
        kind, lag = KINDS[number % len(KINDS)], random.Random(number).choice(LAGS)
        lag = min(lag, 0.1) if kind == "collect" else lag  # all is collected in half a second
        seconds, faults = trial(kind, lag, root)
        print(json.dumps({"kind": kind, "lag": lag, "seconds": seconds, "faults": faults}), flush=True)


@pytest.mark.nightly
def test_f9_two_writers_never_mix_and_the_loser_learns_who_holds(tmp_path):
    told = told_by(__file__, tmp_path, RACES)
    print(f"\nthe last loser ended after {max(each['seconds'] for each in told):.1f} s", flush=True)
    assert len(told) == RACES
    verdict("F9", RACES, [each for each in told if each["faults"]])


if __name__ == "__main__":
    child(Path(sys.argv[1]), int(sys.argv[2]))
