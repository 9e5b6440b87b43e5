"""Task diversity: pools, the memorising posterior, the relative distance, and the section of the report."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.agents._arm_agent import ArmStats
from icrl.agents.posterior_pool import PosteriorPool
from icrl.agents.thompson_bernoulli import ThompsonBernoulli
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.settings import replaced
from icrl.core.tasks import TaskSet
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.evaluation.diversity import distance_of_choices
from icrl.evaluation.online import Trial
from icrl.evaluation.statistics import Interval
from icrl.experiments.task_diversity_bandit import GENERAL, MEMORY, MODEL, TaskDiversityBandit, pool_of, row_of
from icrl.recipes.data import contexts_of
from icrl.reports.check import check_results
from icrl.reports.figures import draw_figures
from icrl.reports.page import render_html
from icrl.reports.report import read_results

SMOKE = TaskDiversityBandit.presets["smoke"]
ENV = BernoulliBandit(num_arms=5, horizon=200)


def test_the_memorising_posterior_is_bayes_rule():
    """Probabilities of the arms by products of likelihoods in float64, also where a task is impossible."""
    means = np.array([[0.2, 0.9, 0.5], [0.8, 0.1, 0.5], [0.3, 0.6, 0.7], [1.0, 0.0, 0.5]])
    agent = PosteriorPool.for_env(BernoulliBandit(num_arms=3), means=jnp.asarray(means, jnp.float32))
    wins, losses = np.array([1, 4, 2]), np.array([3, 2, 1])
    weight = np.prod(means**wins * (1 - means) ** losses, axis=1)
    weight /= weight.sum()
    probs = np.bincount(means.argmax(1), weight, minlength=3)
    state = ArmStats(jnp.asarray(wins + losses), jnp.asarray(wins, jnp.float32))
    np.testing.assert_allclose(agent.optimal_action_probs(state), probs, atol=1e-5)
    drawn = jax.vmap(lambda key: agent.act(key, state, None))(jax.random.split(jax.random.key(0), 20_000))
    share = np.bincount(drawn, minlength=3) / 20_000
    assert np.all(np.abs(share - probs) <= 4.3 * np.sqrt(probs * (1 - probs) / 20_000) + 1e-6)
    assert int(agent.act_greedy(jax.random.key(0), state, None)) == (weight @ means).argmax()
    with pytest.raises(InputError, match="needs"):
        PosteriorPool.for_env(ENV)


def test_a_pool_of_one_leaves_no_doubt():
    alone = TaskSet.draw(ENV, 0, "alone", 1)
    memory = PosteriorPool.for_env(ENV, means=alone.params.means)
    state = memory.init(jax.random.key(0))
    assert int(memory.act(jax.random.key(1), state, None)) == int(alone.params.means.argmax())


@pytest.mark.nightly
def test_regret_of_the_generalising_posterior():
    """T = 200, K = 5: 10.59 +- .04 in fresh tasks; 4 000 tasks."""
    fresh = TaskSet.draw(ENV, 0, "fresh", 4000)
    general = Trial(ENV, fresh, 200, 0).regret(ThompsonBernoulli.for_env(ENV))[:, -1]
    assert abs(general.mean() - 10.59) <= 4.3 * np.hypot(general.std() / 4000**0.5, 0.04)


@pytest.mark.nightly
def test_regret_of_the_memorising_posterior_averaged_over_pools():
    """60 pools of 8 and of 64, 50 lives each, at home and in fresh tasks; the sheet's 8 pools: 2.90, 27.4; 7.32, 12.4.

    The standard error is that over pools, ours and (for 8 pools) theirs.
    """
    for size, home, abroad in ((8, 2.90, 27.4), (64, 7.32, 12.4)):
        rows = []
        for number in range(60):
            pool = TaskSet.draw(ENV, number, "pool", size)
            memory = PosteriorPool.for_env(ENV, means=pool.params.means)
            places = pool.repeat(-(-50 // size))[:50], TaskSet.draw(ENV, number, "fresh", 50)
            rows.append([Trial(ENV, tasks, 200, number).regret(memory)[:, -1].mean() for tasks in places])
        rows = np.asarray(rows)
        print(size, rows.mean(0), rows.std(0) / 60**0.5)
        assert np.all(np.abs(rows.mean(0) - (home, abroad)) <= 4.3 * rows.std(0) * np.sqrt(1 / 60 + 1 / 8))


def test_a_pool_is_few_tasks_with_ever_new_histories():
    """The best arms of 64 contexts are those of the pool's 4 tasks, each met; a smaller pool begins a larger one."""
    four = replaced(SMOKE, {"vary": (), "task_pool": 4})
    generator = dataclasses.replace(contexts_of(four, 0, "pretrain/0"), num_steps=6)
    pool = generator.pool().params.means
    np.testing.assert_array_equal(pool_of(replaced(four, {"task_pool": 2}), 0, 0).params.means, pool[:2])
    contexts = generator.fetch(np.arange(64))
    assert set(np.asarray(contexts.label).ravel()) == set(np.asarray(pool.argmax(1)))
    assert len({row.tobytes() for row in np.asarray(contexts.history.action)}) > 30


def test_relative_distance_is_nought_and_one_at_the_ends():
    rng = np.random.default_rng(0)
    memory, general = rng.dirichlet(np.ones(3), (2, 7, 4))
    np.testing.assert_allclose(distance_of_choices(general, memory, general), 0.0, atol=1e-9)
    np.testing.assert_allclose(distance_of_choices(memory, memory, general), 1.0, atol=1e-9)
    between = distance_of_choices((memory + general) / 2, memory, general)
    assert np.all((between > 0.2) & (between < 0.8))


def document():
    sizes, band = [1, 8, 64], Interval(np.array([5.0, 4.0, 3.0]), np.ones(3), np.full(3, 9.0), "95 % t interval")
    band = [Interval(*(getattr(band, part)[i] for part in ("mean", "low", "high")), band.method) for i in range(3)]
    rows = {name: row_of(name, band) for name in (MODEL, MEMORY, GENERAL)}
    section = {"pool_size": sizes, "pool": rows, "fresh": rows, "prefix": [0, 10], "distance": np.eye(3)[:2]}
    return {
        "schema": 1, "experiment": "task-diversity-bandit", "preset": "smoke", "seed": 0, "train_seeds": [0],
        "env": {"id": "x"}, "num_tasks": 30, "num_steps": 10, "title": "Diversity", "claim": "It does.", "checks": [],
        "diversity": section, "seconds": {"total": 1.0}, "device": "cpu", "versions": {},
    }  # fmt: skip


def test_the_section_is_drawn_and_shown():
    results = check_results(document())
    assert results["diversity"]["pool"][GENERAL]["kind"] == "ideal"
    figures = draw_figures(results)
    assert list(figures) == ["pool_regret", "fresh_regret", "relative_distance"]
    cells = [text.get_text() for text in figures["relative_distance"].axes[0].texts]
    assert cells == ["1.00", "0.00", "0.00", "0.00", "1.00", "0.00"]
    assert "posterior over the pool, fresh" in render_html(results, {})
    for field, value in (("distance", [[0.0, 1.0, 0.0]]), ("prefix", [0]), ("pool_size", [1, 8])):
        broken = copy.deepcopy(document())
        broken["diversity"][field] = value
        with pytest.raises(InputError, match=r"^results\.diversity[^\n]*$"):
            check_results(broken)


def test_validation_contexts_are_of_tasks_outside_the_pool():
    alone = replaced(SMOKE, {"vary": (), "task_pool": 1})
    held_out = contexts_of(alone, 0, "validation", held_out=True).fetch(np.arange(64))
    assert len(set(np.asarray(held_out.label).ravel().tolist())) == 3


@pytest.mark.nightly
def test_smoke_run(tmp_path):
    assert main(["run", "task-diversity-bandit", "--preset", "smoke", "--out", str(tmp_path / "run")]) == 0
    section = read_results(tmp_path / "run" / "results.json")["diversity"]
    assert section["pool_size"] == [1, 4]
    assert section["pool"]["memorising"]["regret"]["mean"][0] == 0.0
