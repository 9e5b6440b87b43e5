"""Transformers as Decision Makers: variants, their data and objectives, and what the reports promise."""

import dataclasses

import jax
import numpy as np
import pytest

from icrl.agents.mixture import Mixture
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.registry import agents
from icrl.core.settings import replaced
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.experiments.ad import ADAnywhere
from icrl.experiments.tadm_bernoulli import DPT_ON, IMITATES_UCB, TADMBernoulli
from icrl.experiments.tadm_linear import TADMLinear
from icrl.experiments.tadm_mdp import TADMMDP
from icrl.layouts.pairs import Pairs
from icrl.objectives.ad import AD
from icrl.objectives.dpt import DPT
from icrl.recipes import data
from icrl.recipes.agent_names import agent_of
from icrl.recipes.checks import improvement, order, regret_ratio
from icrl.recipes.data import RunData, contexts_of
from icrl.reports.report import read_results

SMOKE = TADMBernoulli.presets["smoke"]


def test_variants_say_data_and_objective():
    cpu = TADMBernoulli.variants(TADMBernoulli.presets["cpu"])
    assert [type(recipe.objective()) for recipe in cpu.values()] == [AD, DPT, DPT, DPT, DPT]
    assert type(agent_of(SMOKE.env, cpu[IMITATES_UCB].sources[0])) is agents["ucb"]
    mixed = agent_of(SMOKE.env, cpu[DPT_ON[10]].sources[0])
    assert (type(mixed.first), type(mixed.second), mixed.share) == (
        agents["thompson-bernoulli"], agents["uniform"], 0.1,
    )  # fmt: skip
    assert TADMBernoulli.kinds(SMOKE) == ["imitates ucb", "DPT, 50 % of data TS"]
    assert TADMBernoulli.num_models(dataclasses.replace(SMOKE, train_seeds=3)) == 6
    assert TADMMDP.presets["cpu"].context_steps == 25 * TADMMDP.presets["cpu"].env.horizon == 100


@pytest.mark.parametrize(
    "source", ["0.5*ucb", "x*ucb+y*uniform", "1.5*ucb+-0.5*uniform", "0.5*ucb+0.6*uniform", "nan*ucb+1*uniform"]
)
def test_bad_mixtures_are_refused(source):
    with pytest.raises(InputError, match=r"^source: got [^\n]*$"):
        replaced(SMOKE, {"source": (source,)})


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
    """UCB tries the arms in order first; contexts of the same tasks have the best arm as their label."""
    variant = TADMBernoulli.variants(SMOKE)[IMITATES_UCB]
    history = RunData(None, 0).batches(variant, 0)(0)
    assert np.array_equal(history.action[:4, :3], np.tile([0, 1, 2], (4, 1)))
    contexts = contexts_of(variant, 0, "pretrain/0").fetch(np.arange(4))
    assert np.array_equal(contexts.history.action, history.action[:4])


@pytest.mark.parametrize("device_bytes", [0, 2**30])
def test_the_same_contexts_are_seen_again(monkeypatch, device_bytes):
    """Six contexts in batches of four: every epoch has each of them once, held on the device or made again."""
    monkeypatch.setattr(data, "DEVICE_BYTES", device_bytes)
    settings = replaced(TADMBernoulli.variants(SMOKE)[DPT_ON[50]], {"pool": 6, "batch_size": 4})
    seen = RunData(None, 0).batches(settings, 0)
    rows = np.concatenate([seen(step).history.reward for step in range(3)])
    once, again = (np.unique(each, axis=0) for each in (rows[:6], rows[6:]))
    assert len(once) == 6 and np.array_equal(once, again)


def test_a_query_shows_the_arms():
    """The paper's first token of a step holds the flattened action set; so does ours, behind its mark."""
    env = TADMLinear.presets["smoke"].env
    obs = env.reset(jax.random.key(0))[0]
    layout = Pairs(env.spec)
    token = np.asarray(layout.before(obs, layout.no_past()))[0]
    assert token[0] == 1.0
    assert np.array_equal(token[1 : 1 + obs.size], obs)
    assert not token[1 + obs.size :].any()


def test_checks_compare_on_the_same_tasks():
    noise = np.random.default_rng(0).normal(size=(1, 200))
    final = {"a": 20 + noise, "b": 10 + noise, "c": 10 - noise, "ts": 9.5 - noise}
    measured = {name: {"regret": np.stack([np.ones_like(values), values], -1)} for name, values in final.items()}
    promises = order("a", "b", "c"), regret_ratio("ts", 1.1, "c"), regret_ratio("ts", 1.0, "nobody")
    checks = [row for promise in promises for row in promise(SMOKE, measured)]
    assert [check["ok"] for check in checks] == [True, False, True]
    assert checks[0]["measured"]["mean"] == pytest.approx(10)
    assert checks[2]["measured"]["mean"] == pytest.approx((10 - noise.mean()) / (9.5 - noise.mean()))


def test_a_gain_is_that_of_the_last_fifth_of_episodes_over_the_first():
    """Ten episodes of H = 6 steps: two of 1 come first, two of 4 last."""
    recipe = replaced(ADAnywhere.presets["smoke"], {"history_steps": 60, "eval_steps": 60})
    returns = np.array([1.0, 1, 9, 9, 9, 0, 0, 0, 4, 4]) + np.zeros((1, 3, 1))
    (row,) = improvement(recipe, {"AD": {"returns": returns}, "uniform": {"returns": -returns}})
    assert row["measured"]["mean"] == 3 and row["ok"]


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
