"""Transformers as Decision Makers: variants, their data and objectives, and what the reports promise."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from icrl.agents.mixture import Mixture
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.registry import agents
from icrl.datasets.contexts import Batches
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.experiments.tadm_bernoulli import TADMBernoulli
from icrl.experiments.tadm_linear import TADMLinear
from icrl.experiments.tadm_mdp import TADMMDP
from icrl.layouts.pairs import Pairs
from icrl.objectives.ad import AD
from icrl.objectives.dpt import DPT
from icrl.recipes.tadm_pipeline import Histories, TADMExperiment, _generator, label_of, split_variant
from icrl.reports.report import read_results

SMOKE = TADMBernoulli.presets["smoke"]


def test_variants_say_data_and_objective():
    assert isinstance(SMOKE.objective("imitate:ucb"), AD)
    assert isinstance(SMOKE.objective("dpt:0.5"), DPT)
    assert type(SMOKE.source("imitate:ucb")) is agents["ucb"]
    mixed = SMOKE.source("dpt:0.25")
    assert (type(mixed.first), type(mixed.second), mixed.share) == (
        agents["thompson-bernoulli"], agents["uniform"], 0.25,
    )  # fmt: skip
    assert label_of("dpt:0.1") == "DPT, 10 % of data TS"
    assert TADMBernoulli.num_models(dataclasses.replace(SMOKE, train_seeds=3)) == 6
    mdp = TADMMDP.presets["cpu"]
    assert mdp.context_steps == mdp.episodes * mdp.env.horizon == 100


@pytest.mark.parametrize("variant", ["ucb", "imitate:", "dpt:x", "dpt:1.5", "dpt:nan", "ad:ucb"])
def test_bad_variants_are_refused(variant):
    with pytest.raises(InputError, match=r"^variants[^\n]*: got [^\n]*$"):
        split_variant(variant)
    with pytest.raises(InputError):
        dataclasses.replace(SMOKE, variants=(variant,))


def test_a_mixture_lives_one_life_at_a_time():
    """4 000 lives: a share .3 of them is the first agent's, whole; z = 4.3."""
    env = BernoulliBandit(num_arms=3)
    agent = Mixture.for_env(env, first="ucb", second="uniform", share=0.3)
    states = jax.vmap(agent.init)(jax.random.split(jax.random.key(0), 4000))
    share = float(states.is_first.mean())
    assert abs(share - 0.3) <= 4.3 * np.sqrt(0.3 * 0.7 / 4000)
    for share, same in ((1.0, True), (0.0, False)):
        one = Mixture.for_env(env, first="ucb", second="uniform", share=share)
        state = one.init(jax.random.key(1))
        first, _ = state.memories
        acts = [int(one.act(key, state, None)) for key in jax.random.split(jax.random.key(2), 12)]
        assert (set(acts) == {int(agents["ucb"].for_env(env).act(jax.random.key(0), first, None))}) == same
    with pytest.raises(InputError, match="mixture"):
        Mixture.for_env(env, first="oracle")
    with pytest.raises(InputError, match="share"):
        Mixture.for_env(env, share=1.1)


def test_the_imitated_data_is_what_the_agent_did():
    """UCB tries the arms in order first; the decision-pretrained model gets labels that are the best arm."""
    generator = _generator(SMOKE, "imitate:ucb", 0, "test")
    history = Histories(Batches(generator, 4, 0))(0)
    assert np.array_equal(history.action[:, :3], np.tile([0, 1, 2], (4, 1)))
    contexts = generator.fetch(np.arange(4))
    assert np.array_equal(contexts.history.action, history.action)


def test_the_same_contexts_are_seen_again(monkeypatch):
    """Six contexts in batches of four: every epoch has each of them once."""
    seen = []
    monkeypatch.setattr(TADMBernoulli, "_fit", lambda settings, run, model, batches, *_: seen.append(batches))
    fit = dataclasses.replace(SMOKE.fit, batch_size=4)
    settings = dataclasses.replace(SMOKE, variants=("dpt:0.5",), contexts=6, fit=fit)
    TADMBernoulli._fit_model(settings, SimpleNamespace(seed=0), 0)
    rows = np.concatenate([seen[0](step).history.reward for step in range(3)])
    once, again = (np.unique(each, axis=0) for each in (rows[:6], rows[6:]))
    assert len(once) == 6 and np.array_equal(once, again)
    with pytest.raises(InputError, match="context: got 6"):
        seen[0].contexts.fetch(np.array([6]))


def test_a_query_shows_the_arms():
    """The paper's first token of a step holds the flattened action set; so does ours, behind its mark."""
    env = TADMLinear.presets["smoke"].env
    obs = env.reset(jax.random.key(0))[0]
    token = np.asarray(Pairs(env.spec).before(obs))[0]
    assert token[0] == 1.0
    assert np.array_equal(token[1 : 1 + obs.size], obs)
    assert not token[1 + obs.size :].any()


def test_checks_compare_on_the_same_tasks():
    class Promises(TADMExperiment):
        order = ("dpt:0", "dpt:0.5", "dpt:1")
        max_ratio = {("dpt:1", "ts"): 1.1, ("dpt:9", "ts"): 1.0}

    noise = np.random.default_rng(0).normal(size=(1, 200))
    final = {"dpt:0": 20 + noise, "dpt:0.5": 10 + noise, "dpt:1": 10 - noise, "ts": 9.5 - noise}
    checks = Promises._checks(final)
    assert [check["ok"] for check in checks] == [True, False, True]
    assert checks[0]["measured"]["mean"] == pytest.approx(10)
    assert checks[2]["measured"]["mean"] == pytest.approx((10 - noise.mean()) / (9.5 - noise.mean()))


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["tadm-bernoulli", "tadm-linear", "tadm-mdp"])
def test_smoke_runs(name, tmp_path):
    assert main(["run", name, "--preset", "smoke", "--out", str(tmp_path / "run")]) == 0
    results = read_results(tmp_path / "run" / "results.json")
    agents, training = results["online"]["agents"], results["training"]
    kinds = [agent["label"] for agent in agents.values() if agent["kind"] == "model"]
    assert list(training) == (kinds if len(kinds) > 1 else ["0"])
    final = {player: agent["regret"]["mean"][-1] for player, agent in agents.items()}
    assert final["oracle"] == 0 < min(final[player] for player in final if player != "oracle")
    assert any(agent["kind"] == "model" for agent in agents.values())
