"""The number of devices changes no curve of an evaluation."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from icrl.evaluation.online import Trial
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.core.registry import agents
from icrl.core.tasks import TaskSet

settings = DPTBandit.presets["smoke"]
assert jax.local_device_count() == int(sys.argv[1])
tasks = TaskSet.draw(settings.env, 0, "test", 64)
for agent in (settings.agent(settings.new_policy(0, 0)), agents["ucb"].for_env(settings.env)):
    regret = Trial(settings.env, tasks, 20, 0).regret(agent)
    print(*regret[:, -1])
"""


def outcome(count: int) -> list[float]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_an_evaluation_is_the_same_on_more_devices(count):
    one = outcome(1)
    assert len(one) == 128
    assert outcome(count) == pytest.approx(one, abs=1e-5)
