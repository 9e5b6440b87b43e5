"""Agents as settings name them: with settings of their own, mixed, and what is refused."""

import pytest

from icrl.core.errors import InputError
from icrl.core.registry import agents
from icrl.envs.dark_room import DarkRoom
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.recipes.agent_names import agent_of, base_name, check_agent, in_words, is_oracle, mixed, parsed
from icrl.recipes.competitors import competing, fitting

ENV = GaussianBandit(num_arms=3)


def test_settings_follow_the_name():
    assert agent_of(ENV, "ucb@c=0.5") == agents["ucb"].for_env(ENV, c=0.5)
    assert agent_of(ENV, "ucb") == agents["ucb"].for_env(ENV)
    assert parsed("q-learning@step_size=0.1@epsilon=.5") == ("q-learning", {"step_size": 0.1, "epsilon": 0.5})
    assert parsed("q-learning@step-size=1")[1] == {"step_size": 1}
    room = DarkRoom(size=3)
    assert agent_of(room, "posterior-task@memory=steps").memory == "steps"
    assert agent_of(room, "annealed-oracle", 30).anneal_steps == 30
    assert agent_of(room, "annealed-oracle@anneal_steps=7", 30).anneal_steps == 7


def test_one_agent_competes_under_several_settings():
    players = competing(ENV, ("ucb", "ucb@c=0.5", "ucb@c=2")).players
    assert [agent.c for agent in players.values()] == [1.0, 0.5, 2.0]


def test_planners_play_where_the_state_is_hidden_only_if_they_are_named():
    hidden, seen = DarkRoom(size=3, reward_once=True), DarkRoom(size=3)
    assert "ucb-vi" in fitting(seen).players and "ucb-vi" in fitting(hidden, ("ucb-vi",)).players
    refused = fitting(hidden).refused
    for name in ("ucb-vi", "psrl", "ucrl2", "ucb-h"):
        assert refused[name] == "needs to observe the state, plays if named"
    assert "q-learning" in fitting(hidden).players


def test_what_readers_see():
    assert in_words("q-learning@step_size=0.1@epsilon=0") == "q-learning, step size 0.1, epsilon 0"
    assert in_words("best_of_all") == "best_of_all"
    assert in_words("ucb-vi") == "UCB-VI, bonus x 0.01" and in_words("ucb-vi-ch") == "ucb-vi-ch"
    assert in_words("ucb-vi@bonus_scale=0.003@delta=0.1") == "UCB-VI, bonus x 0.003, delta 0.1"
    assert base_name("oracle@x=1") == "oracle" and is_oracle("oracle@x=1") and not is_oracle("DPT, rolling")
    assert mixed("0.25*ucb+0.75*uniform") == {"ucb": 0.25, "uniform": 0.75}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ucb@c", "source: got 'ucb@c', allowed: AGENT, AGENT@SETTING=VALUE"),
        ("ucb@c=1@c=2", "source: got 'ucb@c=1@c=2', allowed"),
        ("ucb@d=1", "ucb setting: got 'd', allowed: num_arms, c"),
        ("ubc@c=1", "unknown agent 'ubc'; did you mean"),
        ("0.5*ucb+0.6*uniform", "source: got '0.5.ucb.0.6.uniform', allowed"),
        ("0.5*ucb+0.5*ucb", "source: got"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        check_agent("source", text)


def test_a_value_out_of_range_is_refused_by_the_agent():
    with pytest.raises(InputError, match=r"c: got -1"):
        agent_of(ENV, "ucb@c=-1")
