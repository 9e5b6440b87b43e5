"""F9: two processes that begin, go on, or collect in one folder at once: one wins, the other is told who holds it."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from small_runs import RUN, results
from trials import trials, verdict

from icrl.cli import main

RACES = trials(60)
SECONDS = 5  # in which the loser has ended after both had imported what they need
KINDS = ("new", "resume", "collect")
HOLDER = re.compile(r"^icrl: \S+: pid \d+ on \S+, run [^,]+, since \S+, is writing here; wait for it, or use another")
WAITS = "import sys, icrl.recipes.run, icrl.experiments.ad; sys.stdin.readline(); from icrl.cli import main; "
WAITS += "sys.exit(main(sys.argv[1:]))"  # imports are over before the race begins


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Results of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("f9") / "run"
    assert main([*RUN, "--out", str(folder)]) == 0
    return results(folder)


def contestant(words) -> subprocess.Popen:
    command = [sys.executable, "-c", WAITS, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True, env=os.environ)


def race(words, chance: random.Random) -> list[tuple[int, str, float]]:
    """(exit code, stderr, seconds) of both, the one that ended first first."""
    both = [contestant(words) for _ in range(2)]
    time.sleep(4)
    began = time.monotonic()
    for each in both:
        each.stdin.write("\n")
        each.stdin.flush()
        time.sleep(chance.choice((0.0, 0.0, 0.01, 0.1, 0.5)))
    ended = {}
    while len(ended) < 2:
        for each in both:
            if each not in ended and each.poll() is not None:
                ended[each] = time.monotonic() - began
        time.sleep(0.01)
    return [(each.returncode, each.stderr.read(), seconds) for each, seconds in ended.items()]


@pytest.mark.nightly
def test_f9_two_writers_never_mix_and_the_loser_learns_who_holds(whole, tmp_path):
    faults, latest = [], 0.0
    for number in range(RACES):
        chance, place, kind = random.Random(number), tmp_path / "place", KINDS[number % len(KINDS)]
        words = [*RUN, "--out", place]
        if kind == "resume":
            child = contestant(words)
            child.stdin.write("\n")
            child.stdin.flush()
            while not (place / "config.json").exists():
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.wait()
            words.append("--resume")
        if kind == "collect":
            words = ["collect", "ad", "--preset", "smoke", "--num-tasks", 24, "--out", place]
        (code, said, seconds), (won, _, _) = race(words, chance)
        latest = max(latest, seconds)
        if code != 4 or not HOLDER.search(said) or seconds > SECONDS:
            faults.append((kind, code, said[-400:], seconds))
        if won:
            faults.append((kind, "the winner ended with", won))
        elif main(["verify", str(place)]) or (kind != "collect" and results(place) != whole):
            faults.append((kind, "mixed"))
        shutil.rmtree(place)
    print(f"\nthe last loser ended after {latest:.1f} s", flush=True)
    verdict("F9", RACES, faults)
