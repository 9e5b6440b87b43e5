"""An own bandit: the noise of an arm grows with its mean, so that good arms are the hard ones to measure.

    python examples/own_bandit.py

An environment is a frozen dataclass; its fields are its settings, ``params`` is the task.
"""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents, environments
from icrl.core.tasks import TaskSet
from icrl.core.types import Array, TaskParams
from icrl.envs import Bandit
from icrl.evaluation.online import Trial
from icrl.testing import check_environment


@struct.dataclass
class Arms(TaskParams):
    """A task: the arms' means."""

    means: Array = struct.field(default_factory=lambda: jnp.zeros(5))  # [K] float32


@environments.register("LoudBandit-v0")
@dataclasses.dataclass(frozen=True)
class LoudBandit(Bandit[Arms]):
    """mu_a ~ U[0, 1] independently; reward N(mu_a, (loudness mu_a)^2)."""

    loudness: float = setting(1.0, low=0.0, help="standard deviation of the noise of an arm with mean 1")

    def sample_task(self, key: Array) -> Arms:
        return Arms(means=jax.random.uniform(key, (self.num_arms,)), max_steps_in_episode=self.horizon)

    def arm_means(self, params: Arms) -> Array:
        return params.means

    def draw_reward(self, key: Array, mean: Array, params: Arms) -> Array:
        del params
        return mean * (1 + self.loudness * jax.random.normal(key))


def main(num_tasks: int = 1000, num_steps: int = 200, lawful: bool = True) -> dict[str, float]:
    """Regret after ``num_steps`` pulls of classic agents, by name."""
    env = LoudBandit(horizon=num_steps)
    if lawful:
        check_environment(env)
    trial = Trial(env, TaskSet.draw(env, seed=0, purpose="test", num_tasks=num_tasks), num_steps, seed=0)
    names = ("uniform", "ucb", "ucb1-tuned", "thompson-gaussian", "oracle")
    return {name: float(trial.regret(agents[name].for_env(env), label="")[:, -1].mean()) for name in names}


if __name__ == "__main__":
    print(main())
