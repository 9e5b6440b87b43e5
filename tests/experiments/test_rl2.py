"""RL^2 as a recipe: it meets what learned from data on the same draws, and what does not fit is refused at once."""

import numpy as np
import pytest

import icrl
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import environments, experiments, models
from icrl.core.settings import replaced
from icrl.envs.memory_len import MemoryLen
from icrl.recipes.fits import check_fit
from icrl.storage.publish import read_json

RL2, DPT, AD = (experiments[name].presets["smoke"] for name in ("rl2", "dpt", "ad"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run in which a model that acts and one that predicts are compared."""
    folder = tmp_path_factory.mktemp("rl2") / "run"
    words = "--vary objective+layout=rl2:steps,dpt:pairs --minibatches 2 --num-epochs 1 --competitors oracle"
    words += " --train-steps 4 --log-every 2 --save-every 4 --warmup-steps 1 --batch-size 8 --eval-tasks 8 --model s5"
    assert main(["run", "dpt", "--preset", "smoke", "--out", str(folder), *words.split()]) == 0
    return folder


def test_what_acts_and_what_predicts_meet_in_one_report(finished):
    results = read_json(finished / "results.json")
    assert set(results["online"]["agents"]) == {"objective rl2, layout steps", "objective dpt, layout pairs", "oracle"}
    by_kind = results["training"]
    assert len(by_kind["objective rl2, layout steps"]["trial_return"]) == 2
    assert by_kind["objective dpt, layout pairs"]["trial_return"] is None
    assert sorted(path.stem for path in (finished / "figures").iterdir()) >= ["online_regret", "training"]
    assert (finished / "figures" / "training_returns.png").exists()


def test_the_frozen_policy_is_just_another_agent(finished):
    agent = icrl.load_agent(finished, seed=0)
    agent.reset(seed=3)
    obs = np.zeros(agent.spec.obs_shape, np.float32)
    assert 0 <= int(agent.act(obs)) < agent.spec.num_actions


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"context_steps": 30}, "context_steps: got 30, allowed: a trial, a multiple of an episode's 20 steps"),
        ({"rollout_steps": 50}, r"rollout_steps: got 50, allowed: .*20"),
        ({"rollout_steps": 7}, "rollout_steps: got 7, allowed: a divisor of a trial's 20 steps"),
        ({"minibatches": 3}, "minibatches: got 3, allowed: a divisor of batch_size 16"),
        ({"layout": "query-first"}, "layout: got 'query-first', allowed: .*steps.*; rl2 reads what it acts upon"),
        ({"source": ("ucb",)}, "source: got .*, allowed: .* with objective rl2; its policy makes its own data"),
        ({"data": "histories"}, "data: got 'histories', allowed: contexts with objective rl2"),
        ({"label": "ucb"}, "label: got 'ucb', allowed: none with objective rl2"),
        ({"micro_batch": 4}, "micro_batch: got 4, allowed: none with objective rl2"),
        ({"moe": "token-task"}, "moe: got 'token-task', allowed: none with objective rl2"),
        ({"label_smoothing": 0.1}, "label_smoothing: got 0.1, allowed: 0.0 with objective rl2"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_compiled(changes, told):
    with pytest.raises(InputError, match=told):
        check_fit(replaced(RL2, changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"label": "annealed-oracle"}, "label: got .annealed-oracle., allowed: an agent that sees what a model sees"),
        ({"label": "ucb", "shuffle": True}, "shuffle: got True, allowed: 0, false or none"),
        ({"label": "ucb-vi"}, "label: ucb-vi does not fit GaussianBandit"),
        ({"gae_lambda": 0.5}, "gae_lambda: got 0.5, allowed: 0.95 with objective dpt"),
        ({"layout": "steps", "context": ("last-episode",)}, "context: got 'last-episode', allowed: another rule"),
    ],
)
def test_labels_and_trials_are_asked_where_they_mean_something(changes, told):
    with pytest.raises(InputError, match=told):
        check_fit(replaced(DPT, changes))


def test_a_memory_that_ends_with_each_trial_is_that_of_fresh_agents():
    """Two episodes under the rule ``trial`` are what two agents do that know nothing of each other."""
    import jax

    env = MemoryLen(length=3)
    recipe = replaced(RL2, {"width": 16, "context": ("trial",)})
    recipe = recipe.__class__(
        env=env, model="s5", backbone=recipe.backbone, fit=recipe.fit, prediction=recipe.prediction,
        evaluation=recipe.evaluation,
    )  # fmt: skip
    policy = recipe.new_policy(0, 0)
    params = {**policy.params, "head": {**policy.params["head"], "kernel": 100 * policy.params["head"]["kernel"]}}
    agent = recipe.agent(policy.replace(params=params), "trial")
    assert agent.capacity is None and agent.trial_episodes == 1
    lived = interact(jax.random.key(0), env, env.task(0), agent, 12)
    for episode in range(3):
        state = agent.init(jax.random.key(0))
        for t in range(4 * episode, 4 * episode + 4):
            step = jax.tree.map(lambda field, t=t: field[t], lived.history)
            state = agent.update(state, step)
    fresh = agent.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state, fresh)  # the last step ended a trial
    jax.tree.map(np.testing.assert_array_equal, lived.agent_state, fresh)


def test_what_a_run_has_pretrained_is_a_source_and_a_competitor_of_another(finished, tmp_path, capsys):
    """Read from its folder, frozen, in the worlds that it fits; the others are refused by name."""
    name, words = f"run:{finished}", "--train-steps 2 --batch-size 8 --eval-tasks 8 --log-every 1 --save-every 2"
    more = ["--source", name, "--competitors", f"{name},oracle", *words.split(), "--out", str(tmp_path / "run")]
    assert main(["run", "dpt", "--preset", "smoke", "--objective", "ad", *more]) == 0
    here = read_json(tmp_path / "run" / "results.json")["online"]["agents"][name]
    there = read_json(finished / "results.json")["online"]["agents"]["objective rl2, layout steps"]
    assert here["label"] == "run run"
    np.testing.assert_allclose(here["regret"]["mean"], there["regret"]["mean"], rtol=1e-5)  # same tasks and draws
    assert main(["run", "ad", "--preset", "smoke", "--source", name, "--out", str(tmp_path / "no")]) == 2
    assert "learned in GaussianBandit, whose num_actions is 3, DarkRoom has 5" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"source: got 'run:.*nowhere', allowed: run: and the output folder of a run"):
        replaced(AD, {"source": (f"run:{tmp_path / 'nowhere'}",)})


@pytest.mark.nightly
@pytest.mark.usefixtures("compiles_much")
@pytest.mark.parametrize("number", range(len(environments)))
def test_any_environment_is_lived_in_by_any_model(number, tmp_path, capsys):
    """Every environment once, the models in turns: trains, reports and reloads."""
    env, model = sorted(environments)[number], sorted(models)[number % len(models)]
    if env == "ClassificationBandit-v0":
        pytest.skip("reads tables")
    recipe = replaced(RL2, {"env": env, "model": model})
    words = f"--env {env} --model {model} --width 8 --num-layers 1 --train-steps 2 --batch-size 4 --save-every 2"
    words += f" --eval-tasks 3 --competitors uniform,oracle --context-steps {recipe.episode} --log-every 1"
    assert main(["run", "rl2", "--preset", "smoke", "--out", str(tmp_path / "run"), *words.split()]) == 0, (
        capsys.readouterr().err
    )
    regret = read_json(tmp_path / "run" / "results.json")["online"]["agents"]["RL2"]["regret"]["mean"]
    assert np.isfinite(regret).all()
    assert icrl.load_agent(tmp_path / "run").spec.name == recipe.env.name
