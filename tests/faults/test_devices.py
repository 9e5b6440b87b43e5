"""F13: the number of devices changes no curve of an evaluation, and no bit of what is trained on them."""

import subprocess
import sys
from typing import NamedTuple

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

import dataclasses, hashlib, numpy as np
from icrl.objectives.dpt import DPT
from icrl.recipes.data import RunData
from icrl.training.step import initial_state, train_step

@dataclasses.dataclass(frozen=True)
class Blanked(DPT):
    def inputs(self, batch, key=None):  # random, as in other objectives
        tokens = super().inputs(batch)
        return tokens if key is None else tokens * jax.random.bernoulli(key, 0.8, (*tokens.shape[:2], 1))

objective = Blanked(settings.layout)
fit = dataclasses.replace(settings.fit, batch_size=16, gradient_groups=8)
KEY = jax.random.key(1)
policy, batches = settings.new_policy(0, 0), RunData(None, 0).batches(settings, 0)
state = initial_state(fit, policy)
for number in range(4):
    state = train_step(fit, objective, policy.structure, state, batches(number), KEY)
assert len(state.step.sharding.device_set) == int(sys.argv[1])
print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))).hexdigest())

from icrl.training.seeds import stacked

together, keys = stacked([initial_state(fit, settings.new_policy(0, seed)) for seed in (0, 1)]), jax.random.split(KEY)
for number in range(4):
    both = stacked([batches(number), batches(number + 4)])
    together = train_step(fit, objective, policy.structure, together, both, keys)
assert len(together.step.sharding.device_set) == int(sys.argv[1])
print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(together))).hexdigest())
"""


class Outcome(NamedTuple):
    regrets: list[float]
    trained: str  # digest of the state after some steps
    together: str  # and of the states of two seeds that took them in one program


def outcome(count: int) -> Outcome:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *regrets, trained, together = done.stdout.split()
    return Outcome([float(word) for word in regrets], trained, together)


@pytest.mark.parametrize("count", [2, *(pytest.param(n, marks=pytest.mark.nightly) for n in (4, 8))])
def test_more_devices_change_no_curve_and_no_bit_of_what_is_trained(count):
    one, many = outcome(1), outcome(count)
    assert len(one.regrets) == 128
    assert many.regrets == pytest.approx(one.regrets, abs=1e-5)
    assert (many.trained, many.together) == (one.trained, one.together)
