"""What a comparison shares: the draws of the environment, whatever the agents draw."""

import numpy as np

from icrl.core.registry import agents, environments
from icrl.core.tasks import TaskSet
from icrl.evaluation import online
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


def test_tuning_and_playing_an_agent_compile_it_once():
    """Other curves, other tasks, draws and settings: the program is the same."""
    env, ucb = environments["GaussianBandit-v0"](num_arms=2, horizon=9), agents["ucb"]
    tasks = TaskSet.draw(env, 0, "online", 5)
    trial = Trial(env, tasks, 9, 0, quick=True)
    regret, known = trial.regret(ucb.for_env(env), label=""), online._curves_quickly._cache_size()
    tuning = Trial(env, tasks[:3], 9, 1, quick=True, purpose="tune", like=5)
    tuning.curves(ucb.for_env(env, c=0.5), label="")
    returns = trial.returns(ucb.for_env(env), label="")
    assert online._curves_quickly._cache_size() == known
    assert regret.shape == (5, 9) and returns.shape == (5, 1)
