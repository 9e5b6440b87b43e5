"""Agreement along a history, and repeated actions: of agents for which both are known."""

from icrl.core.registry import agents
from icrl.core.tasks import TaskSet
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.evaluation.agreement import agreement

ENV = GaussianBandit(num_arms=4, horizon=60)
TASKS = TaskSet.draw(ENV, 0, "test", 400)


def shares(driver: str, one: str, other: str):
    made = (agents[name].for_env(ENV) for name in (driver, one, other))
    return agreement(ENV, TASKS, *made, 60, 0).mean(0)


def test_an_agent_agrees_with_itself_and_the_optimum_repeats_itself():
    assert shares("ucb", "ucb", "ucb")[0] == 1.0
    assert tuple(shares("oracle", "oracle", "oracle")) == (1.0, 1.0)


def test_independent_choices_agree_by_chance():
    alike, repeated = shares("uniform", "uniform", "uniform")  # each draws anew
    assert abs(alike - 0.25) < 0.012 and abs(repeated - 0.25) < 0.012  # four standard errors


def test_it_is_the_driver_whose_actions_are_repeated():
    alike, repeated = shares("uniform", "oracle", "oracle")
    assert alike == 1.0 and abs(repeated - 0.25) < 0.012
