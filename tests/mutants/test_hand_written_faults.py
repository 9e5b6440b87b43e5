"""S19: at least 95 % of the faults that were written by hand are seen by the test that is named beside each.

By day only the list itself is checked. Faults of agents that whole distributions must tell stand in ``oracles``.
"""

import json
import os
import subprocess
import sys

import pytest
import runner
from runner import MUTANTS, ROOT, paths_and_words

ROOMS = {"core", "planning", "envs", "agents", "models", "layouts", "objectives", "filters", "datasets", "training"}
ROOMS |= {"evaluation", "storage", "reports", "gym", "recipes", "cli.py"}
WORKERS = int(os.environ.get("ICRL_WORKERS", "2"))


def test_the_text_that_is_changed_occurs_once():
    texts = {file: (ROOT / "icrl" / file).read_text() for file in {mutant.file for mutant in MUTANTS}}
    assert [mutant for mutant in MUTANTS if texts[mutant.file].count(mutant.old) != 1 or mutant.old == mutant.new] == []


def test_there_are_faults_of_every_room_and_each_has_its_test():
    assert len(MUTANTS) >= 60 and len({(mutant.file, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.file.split("/")[0] for mutant in MUTANTS} == ROOMS
    assert all((ROOT / "tests" / path).exists() for mutant in MUTANTS for path in paths_and_words(mutant)[0])


@pytest.mark.nightly
def test_s19_at_least_95_of_100_faults_are_seen(tmp_path):
    commands = [[sys.executable, runner.__file__, str(tmp_path), str(n), str(WORKERS)] for n in range(WORKERS)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    told = [json.loads(line) for worker in workers for line in worker.communicate()[0].splitlines()]
    missed = [each for each in told if each["said"] != "seen"]
    print(f"\nS19: {len(told) - len(missed)} of {len(told)} faults are seen", flush=True)
    assert len(told) == len(MUTANTS)
    assert len(missed) <= 0.05 * len(told), missed
