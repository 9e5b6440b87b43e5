"""What a comparison shares: the draws of the environment, whatever the agents draw."""

import numpy as np

from icrl.core.registry import agents, environments
from icrl.core.tasks import TaskSet
from icrl.evaluation.online import Trial


def test_training_seeds_vary_what_an_agent_draws_and_nothing_else():
    """Where two agents pull the same arm, which its regret tells, they are paid the same."""
    env = environments["GaussianBandit-v0"](num_arms=2, horizon=20)
    tasks, agent = TaskSet.draw(env, 0, "online", 4), agents["uniform"].for_env(env)
    one, other, later = (
        Trial(env, tasks, 20, seed, quick=True).curves(agent, agent_seed, label="")
        for seed, agent_seed in ((0, 0), (0, 1), (1, 0))
    )
    same = one["regret"] == other["regret"]
    assert 20 < same.sum() < 60
    assert np.array_equal(one["reward"][same], other["reward"][same])
    assert np.all(one["reward"] != later["reward"])
