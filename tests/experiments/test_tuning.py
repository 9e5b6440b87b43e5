"""Competitors tuned alike: grids of equal size, tasks that no test sees, the best candidate, both in the report."""

import dataclasses

import jax
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.registry import agents, environments
from icrl.core.tasks import TaskSet
from icrl.envs.dark_room import DarkRoom
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.evaluation.online import Trial
from icrl.experiments.leaderboard import Leaderboard
from icrl.recipes.agent_names import agent_of, in_words, parsed, text_of
from icrl.recipes.ledger import Ledger
from icrl.recipes.measure import episodes_section, held_out_tasks, online_section, rollouts, tuner_of
from icrl.recipes.run import settings_of
from icrl.recipes.tournament import MatchUp
from icrl.recipes.tuning import TUNE, Tuner, candidates_of, check_tuning, tuning_table
from icrl.reports.forms import drawn
from icrl.reports.sections.worlds import leaderboard

BANDIT = GaussianBandit(num_arms=3, horizon=20)
UNTUNED = {  # agents with numbers to set that nobody competes with, or whose number is another agent's name
    "annealed-oracle", "exact-imitator", "mixture", "posterior-pool",
}  # fmt: skip


def sweepable(item):
    """Names of the settings that are numbers and leaves."""
    return [
        field.name
        for field in dataclasses.fields(item)
        if "setting" in field.metadata and field.metadata.get("pytree_node", True) and "float" in str(field.type)
    ]


@pytest.mark.parametrize("name", sorted(set(agents) - UNTUNED))
def test_grids_are_of_equal_size_and_of_one_program(name):
    """Four candidates besides the defaults for each agent with a number to set, in every environment that it fits."""
    settings = sweepable(agents[name])
    for env in (environments[each]() for each in (environments if settings else ("BernoulliBandit-v0",))):
        try:
            agent = agents[name].for_env(env)
        except InputError:
            continue
        tried = candidates_of(env, name)
        assert len(tried) in ((4, 5) if settings else (0,)), (env.name, tried)
        for text in tried:
            made = agent_of(env, text)
            assert jax.tree.structure(made) == jax.tree.structure(agent)
            kinds = [jax.numpy.asarray(leaf).dtype for leaf in jax.tree.leaves(made)]
            assert kinds == [jax.numpy.asarray(leaf).dtype for leaf in jax.tree.leaves(agent)], text
            assert text_of(*parsed(text)) == text


def tuner(folder, tasks=12):
    drawn_tasks = TaskSet.draw(BANDIT, 0, TUNE, tasks)
    return Tuner(Trial(BANDIT, drawn_tasks, 20, 0, purpose=TUNE), Ledger(folder))


def test_the_best_candidate_is_chosen_and_remembered(tmp_path, monkeypatch):
    choice = tuner(tmp_path).choice("ucb")
    trial = Trial(BANDIT, TaskSet.draw(BANDIT, 0, TUNE, 12), 20, 0, purpose=TUNE)
    lost = {f"ucb@c={c:g}": trial.regret(agents["ucb"].for_env(BANDIT, c=c))[:, -1] for c in (0.1, 0.25, 0.5, 2.0)}
    lost = {"ucb": trial.regret(agents["ucb"].for_env(BANDIT))[:, -1], **lost}
    assert list(choice.losses) == list(lost) and choice.best == min(lost, key=lambda each: lost[each].mean())
    for each, values in lost.items():
        np.testing.assert_allclose(choice.losses[each], values, rtol=1e-5)
    other = dataclasses.replace(trial, purpose="evaluation").regret(agents["ucb"].for_env(BANDIT))[:, -1]
    assert not np.allclose(other, lost["ucb"])  # the draws of tuning are its own

    def plays(*_args, **_more):
        raise AssertionError("played again")

    few = dataclasses.replace(trial, tasks=trial.tasks[:5], like=12).regret(agents["ucb"].for_env(BANDIT))[:, -1]
    np.testing.assert_allclose(few, lost["ucb"][:5], rtol=1e-5)  # in the parts of the twelve
    monkeypatch.setattr(Trial, "curves", plays)
    again = tuner(tmp_path).choice("ucb")
    assert again.best == choice.best
    row = tuning_table([again])["rows"][0]
    assert row[:2] == ["ucb", in_words(choice.best)] and row[2]["mean"] <= row[3]["mean"] and row[4] == 5


def test_the_ideal_and_agents_without_settings_are_not_tuned(tmp_path):
    assert tuner(tmp_path).choice("posterior-gaussian") is None  # the exact sampler of this family
    assert tuner(tmp_path).choice("empirical-mean") is None


RECIPE = settings_of(
    "ad", "smoke", {"env": "GaussianBandit-v0", "num_arms": 3, "horizon": 20, "history_steps": None,
                    "context_steps": None, "competitors": ("ucb", "uniform"), "tune": "grid"},
)  # fmt: skip


def test_both_are_in_the_tables_and_one_in_the_chart(tmp_path):
    measured, refused, (choice,) = rollouts(RECIPE, 0, {}, Ledger(tmp_path))
    assert choice.best != "ucb" and list(measured) == ["ucb", choice.best, "uniform"] and refused == {}
    shown = online_section(RECIPE, measured, {}, [choice])["agents"]
    assert shown[choice.best]["label"] == in_words(choice.best) and shown[choice.best]["tuned_from"] == "ucb"
    assert list(drawn(shown)) == [choice.best, "uniform"]
    assert episodes_section(RECIPE, measured, {}, tmp_path, [choice]) is None
    plain = rollouts(dataclasses.replace(RECIPE, evaluation=dataclasses.replace(RECIPE.evaluation, tune="none")), 0, {},
                     Ledger(tmp_path))  # fmt: skip
    assert list(plain.measured) == ["ucb", "uniform"] and plain.choices == []


def test_no_test_task_is_tuned_on(tmp_path):
    room = settings_of("ad", "smoke", {"env": "DarkRoom-v0", "tune": "grid", "eval_tasks": 40})
    for recipe in (RECIPE, room):
        tuning = tuner_of(recipe, 0, False, Ledger(tmp_path)).trial
        test, validation = held_out_tasks(recipe, 0, 1), TaskSet.draw(recipe.env, 0, "validation", 40)
        assert tuning.purpose == "tune" and not set(tuning.tasks.digests()) & set(test.digests())
        if recipe is room:
            assert len(tuning.tasks) == len(test) == 4
            trained = {TaskSet.of(room.env, [i]).digests()[0] for i in room.task_ids[0]}
            assert set(tuning.tasks.digests()) <= trained
        else:
            assert not set(tuning.tasks.digests()) & set(validation.digests())
    settings = dataclasses.replace(Leaderboard.presets["smoke"], tune="grid", mdp_tasks=24)
    match = MatchUp("DarkRoom-v0", DarkRoom(), 40, 24, {}, {})
    test, tuning = settings.test_tasks(match, 0), settings.tuner(match, 0, Ledger(tmp_path)).trial.tasks
    assert len(test) == len(tuning) == 24 and not set(test.digests()) & set(tuning.digests())
    assert len(set(test.digests())) == 8 and len(set(np.asarray(test.ids).tolist())) == 24  # draws of their own


def test_the_standings_have_a_row_for_the_tuned():
    def agent(final, **more):
        mean = [final / 2, final]
        return {"kind": "baseline", "label": f"<{final}>", "interval": "t", "regret": {"mean": mean}, **more}

    worlds = {
        "A-v0": {"agents": {"ucb": agent(5.0), "ucb@c=2": agent(2.0, tuned_from="ucb"), "uniform": agent(10.0)}},
        "B-v0": {"agents": {"ucb": agent(4.0, tuned_from="ucb"), "uniform": agent(8.0)}},
    }
    rows = {row.label: (row.shares, row.is_drawn) for row in leaderboard(worlds)}
    assert rows == {
        "ucb (tuned)": ([0.2, 0.5], True), "<4.0>": ([0.5, 0.5], False), "<8.0>": ([1.0, 1.0], True)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tune_tasks", "split", "words"),
    [(9, ((1, 2, 3), (4,)), "tune_tasks: got 9, allowed: at most 3, as many as there are training tasks"),
     (None, ((1,), (2, 3)), "tune_tasks: got None, allowed: at most 1, .* at least two for an interval")],
)  # fmt: skip
def test_tuning_tasks_that_are_too_few(tune_tasks, split, words):
    with pytest.raises(InputError, match=f"^{words}[^\n]*$"):
        check_tuning("grid", tune_tasks, split)
    check_tuning("none", tune_tasks, split)
    check_tuning("grid", tune_tasks, None)


def test_one_tuning_task_is_too_few_for_an_interval():
    with pytest.raises(InputError, match=r"^tune_tasks: got 1, allowed: an integer in \[2, [^\n]*$"):
        settings_of("leaderboard", "smoke", {"tune": "grid", "tune_tasks": 1})
    with pytest.raises(InputError, match=r"^tune: got 'best', allowed: none or grid$"):
        settings_of("ad", "smoke", {"tune": "best"})


def test_a_grid_without_values_is_refused(monkeypatch):
    for grid in (({},), ({"c": 1.0}, ())):
        monkeypatch.setattr(agents["ucb"], "grid", grid)
        with pytest.raises(InputError, match=r"^grid of ucb: got [^\n]*, allowed: settings with values$"):
            candidates_of(BANDIT, "ucb")
    monkeypatch.setattr(agents["ucb"], "grid", ({"d": 1.0},))
    with pytest.raises(InputError, match=r"^ucb setting: got 'd', allowed: num_arms, c[^\n]*$"):
        agent_of(BANDIT, candidates_of(BANDIT, "ucb")[1])
