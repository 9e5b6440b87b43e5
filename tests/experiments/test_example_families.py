"""Families of examples: what is drawn, read and scored, and the experiment that trains on them."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import icrl
from icrl.agents.uniform import Uniform
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import experiments
from icrl.core.settings import replaced
from icrl.datasets.examples import ExampleGenerator, framed
from icrl.envs._linear_regression import LinearRegression
from icrl.envs.balls_and_urns import BallsAndUrns, UrnTask
from icrl.evaluation.diversity import prediction_losses
from icrl.objectives._next_outcome import NextOutcome
from icrl.recipes.example_recipe import by_model
from icrl.reports.check import check_results
from icrl.reports.figures import draw_figures
from icrl.reports.report import read_results

SMOKE = experiments["task-diversity"].presets["smoke"]
FAMILIES = [LinearRegression(dim=3, horizon=6), BallsAndUrns(num_colors=4, horizon=6)]
families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)


# --- what is drawn ---


def test_regression_has_the_moments_of_its_prior():
    """w, x ~ N(0, 1), noise 0.5; 20 000 sequences, z = 4.3."""
    generator = ExampleGenerator(LinearRegression(dim=3, horizon=2), 0, "moments")
    x, y = map(np.asarray, generator.fetch(np.arange(20_000)))
    w = np.asarray(generator._tasks(jnp.arange(20_000, dtype=jnp.uint32)).w)
    noise = y - np.einsum("nkd,nd->nk", x, w)
    for values, std in ((w, 1.0), (x, 1.0), (noise, 0.5)):
        flat = values.ravel()
        assert abs(flat.mean()) <= 4.3 * std / flat.size**0.5
        assert abs(flat.std() / std - 1) <= 4.3 / (2 * flat.size) ** 0.5


def test_balls_are_as_often_as_the_urn_says():
    env, probs = BallsAndUrns(num_colors=4, horizon=20_000), jnp.array([0.1, 0.5, 0.0, 0.4])
    task = UrnTask(probs=probs, max_steps_in_episode=20_000)
    x, y = env.draw(jax.random.key(0), task)
    share = np.bincount(y, minlength=4) / 20_000
    assert np.all(np.abs(share - probs) <= 4.3 * np.sqrt(np.asarray(probs) * (1 - np.asarray(probs)) / 20_000))
    np.testing.assert_array_equal(x[:, 0], np.append(4, y[:-1]))


def test_urns_have_the_dirichlet_s_moments():
    """Mean 1 / V, variance (V - 1) / (V^2 (V alpha + 1))."""
    for alpha in (1.0, 0.3):
        generator = ExampleGenerator(BallsAndUrns(num_colors=4, alpha=alpha), 0, "urns", pool_size=20_000)
        probs = np.asarray(generator.pool().probs, np.float64)
        np.testing.assert_allclose(probs.sum(1), 1.0, atol=1e-5)
        assert np.all(np.abs(probs.mean(0) - 0.25) <= 4.3 * probs.std(0) / 20_000**0.5)
        np.testing.assert_allclose(probs.var(0), 3 / (16 * (4 * alpha + 1)), rtol=0.05)


def test_a_guess_earns_one_if_it_is_right_and_changes_no_ball():
    env = BallsAndUrns(num_colors=3, horizon=5)
    task = env.sample_task(jax.random.key(1))
    runs = [interact(jax.random.key(2), env, task, Uniform.for_env(env), 12, jax.random.key(n)) for n in (3, 4)]
    for found in runs:
        ball = np.asarray(found.history.next_obs)[:, 0]
        np.testing.assert_array_equal(found.history.reward, np.asarray(found.history.action) == ball)
        np.testing.assert_array_equal(np.asarray(found.history.obs)[[0, 5, 10], 0], 3)  # none yet, in each episode
    np.testing.assert_array_equal(runs[0].history.next_obs, runs[1].history.next_obs)
    assert np.any(runs[0].history.action != runs[1].history.action)


def test_a_task_that_is_no_urn_is_refused():
    env = BallsAndUrns(num_colors=3)
    with pytest.raises(InputError, match=r"^task\.probs: .*add up to 1"):
        env.validate_task(env.default_params.replace(probs=jnp.array([0.5, 0.5, 0.5])))


@families
def test_a_pool_is_few_tasks_with_ever_new_sequences(family):
    """A smaller pool begins a larger one; a step's batch is a function of the step; no sequence comes twice."""
    two, five = (ExampleGenerator(family, 0, "pretrain/0", pool_size=size) for size in (2, 5))
    for small, large in zip(jax.tree.leaves(two.pool()), jax.tree.leaves(five.pool()), strict=True):
        np.testing.assert_array_equal(small, large[:2])
    again, other = ExampleGenerator(family, 0, "pretrain/0", pool_size=2), two.batch(4, 8)
    jax.tree.map(np.testing.assert_array_equal, again.batch(3, 8), two.batch(3, 8))
    assert not np.array_equal(other.y, two.batch(3, 8).y)
    assert not np.array_equal(two.fetch(np.arange(8)).y, two.batch(0, 8).y)  # of training


def test_sequences_of_one_task_stand_side_by_side():
    family = BallsAndUrns(num_colors=4, horizon=400)
    together = ExampleGenerator(family, 0, "pretrain/0", pool_size=1000, sequences_per_task=2).fetch(np.arange(8))
    share = np.stack([np.bincount(row, minlength=4) for row in np.asarray(together.y)]) / 400
    within, between = np.abs(share[::2] - share[1::2]).max(), np.abs(share[0] - share[2]).max()
    assert within < 0.12 < between


# --- what is read and scored ---


@families
def test_no_token_tells_the_outcome_that_it_predicts(family):
    """Changing y_k changes no token up to the decision about it, and one behind it."""
    examples = ExampleGenerator(family, 0, "x").fetch(np.arange(1))
    one = jax.tree.map(lambda leaf: leaf[0], examples)
    for k, place in enumerate(np.asarray(family.decisions())):
        y = one.y.at[k].set((one.y[k] + 1) % 4)
        x = one.x if one.x.shape[1] > 1 else jnp.concatenate([one.x[:1], y[:-1, None].astype(jnp.float32)])
        before, after = family.tokens(one), family.tokens(one._replace(x=x, y=y))
        assert before.shape == (family.num_tokens, family.token_dim)
        np.testing.assert_array_equal(before[: place + 1], after[: place + 1])
        assert k == family.num_examples - 1 or not np.array_equal(before, after)


@families
def test_a_model_of_the_exact_predictor_is_at_no_distance(family):
    """Distances are 0 to themselves, symmetric, and losses of training are those of the report."""
    generator = ExampleGenerator(family, 0, "x", pool_size=3)
    sequences = framed(family, generator.fetch(np.arange(40)), generator.pool())
    one, other = sequences.memorising, sequences.generalising
    distance = jax.vmap(family.distance)
    assert np.all(np.abs(distance(one, one)) == 0)
    np.testing.assert_allclose(distance(one, other), distance(other, one), rtol=1e-5)
    outputs = jax.random.normal(jax.random.key(0), (family.num_examples, family.num_outputs))
    y = sequences.examples.y[0]
    np.testing.assert_allclose(family.scores(outputs, y), family.losses(family.predict(outputs), y), atol=0.02)
    assert np.mean(jax.vmap(family.losses)(one, sequences.examples.y)) < np.mean(  # in its pool the memory is best
        jax.vmap(family.losses)(other, sequences.examples.y)
    )


@families
def test_distances_are_logged_as_they_are_measured(family):
    """The report of training and the evaluation agree on the same sequences."""
    recipe = replaced(SMOKE, {"vary": (), "task_pool": 3})
    recipe = recipe.__class__(**{**vars(recipe), "family": family})
    held_out, policy = recipe.validation(0, 0), recipe.new_policy(0, 0)
    said = NextOutcome(family).report(policy, held_out)
    found = prediction_losses(recipe.objective, policy, held_out)
    for name in ("to_memory", "to_general"):
        np.testing.assert_allclose(said[name], found[name].mean(), rtol=1e-4)
    assert recipe.num_parameters == policy.num_parameters


# --- the experiment ---


def test_models_are_compared_pool_by_pool():
    recipe = replaced(SMOKE, {"vary": ("model=gru,transformer", "task_pool=8,2")})
    assert by_model(recipe) == {
        name: {size: f"model {name}, task pool {size}" for size in (2, 8)} for name in ("gru", "transformer")
    }


REFUSED = [
    (("--task-pool", "0"), "task_pool: got 0, allowed: an integer in"),
    (("--vary", "task_pool=none,4"), "task_pool: got None, allowed: task_pool=M"),
    (("--vary", "task_pool+train_steps=1:10,4:20"), "vary: got 'task_pool+train_steps=1:10,4:20', allowed: task_pool="),
    (("--vary", "task_pool=1,4", "--vary", "dim=2,3"), "vary: got 'task pool 1, dim 3', allowed: settings other than"),
    (("--family", "cards"), "unknown family 'cards'; known: regression, urns"),
    (("--family", "DarkRoom-v0"), "unknown family 'DarkRoom-v0'"),
    (("--noise-std", "0"), "noise_std: got 0.0, allowed: a finite number in [0.01"),
    (("--family", "urns", "--alpha", "nan"), "alpha: got nan"),
    (("--family", "urns", "--noise-std", "1"), "unrecognized argument '--noise-std'"),
    (("--eval-tasks", "1"), "eval_tasks: got 1"),
    (("--horizon", "0"), "horizon: got 0"),
    (("--vary", "task_pool=2000000000,4", "--dim", "4096"), "the predictor that memorises needs at least"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_compared_is_refused_in_one_line(words, message, tmp_path, capsys):
    code = main(["run", "task-diversity", "--preset", "smoke", "--out", str(tmp_path / "run"), *words])
    error = capsys.readouterr().err
    assert code in (2, 5) and message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of both kinds of memory on urns."""
    folder = tmp_path_factory.mktemp("urns") / "run"
    small = ["--vary", "task_pool=1,4", "--vary", "model=gru,transformer", "--train-steps", "4", "--log-every", "2"]
    words = ["--family", "urns", "--horizon", "5", "--num-colors", "3", "--train-seeds", "2", "--eval-tasks", "6"]
    assert main(["run", "task-diversity", "--preset", "smoke", "--out", str(folder), *words, *small]) == 0
    return folder


@pytest.mark.nightly
def test_a_run_has_both_sections(finished):
    results = read_results(finished / "results.json")
    assert results["diversity"]["pool_size"] == results["strategies"]["pool_size"] == [1, 4]
    assert list(results["strategies"]["models"]) == ["gru", "transformer"]
    assert {*results["diversity"]["fresh"]} == {"gru", "transformer", "memorising", "generalising"}
    model = results["strategies"]["models"]["gru"]
    assert model["step"] == [2, 4] and np.shape(model["by_step"]) == (2, 2)
    assert results["env"]["id"] == "BallsAndUrns" and results["env"]["num_colors"] == 3
    with pytest.raises(InputError, match="pretrains no agent"):
        icrl.load_agent(finished)


@pytest.mark.nightly
def test_it_is_evaluated_again_to_the_same_numbers(finished):
    before = read_results(finished / "results.json")
    assert main(["evaluate", str(finished)]) == 0
    after = read_results(finished / "results.json")
    assert all(after[name] == before[name] for name in ("diversity", "strategies", "training"))


# --- the section of the report ---

BAND = {"mean": [0.5, 0.2], "low": [0.4, 0.1], "high": [0.6, 0.3]}
STRATEGY = {
    "parameters": 100, "state_bytes": 64, "to_memory": BAND, "to_general": BAND, "relative": [0.9, 0.1],
    "step": [10, 20], "by_step": [[0.5, 0.5], [0.9, 0.1]],
}  # fmt: skip
LOSS = {"kind": "model", "label": "gru (ours)", "interval": "95 % t interval", "loss": BAND}


def document():
    return {
        "schema": 1, "experiment": "task-diversity", "preset": "smoke", "seed": 0, "train_seeds": [0],
        "env": {"id": "x"}, "num_tasks": 30, "num_steps": 10, "title": "Diversity", "claim": "It does.", "checks": [],
        "diversity": {"loss_in_words": "nats", "pool_size": [1, 8], "pool": {"gru": LOSS}, "fresh": {"gru": LOSS},
                      "prefix": [0, 4], "distance": [[1.0, 0.5], [1.0, 0.0]]},
        "strategies": {"distance_in_words": "nats", "pool_size": [1, 8], "apart": BAND, "models": {"gru": STRATEGY}},
        "seconds": {"total": 1.0}, "device": "cpu", "versions": {},
    }  # fmt: skip


def test_the_sections_are_drawn_in_words_of_predictions():
    figures = draw_figures(check_results(document()))
    drawn = ["pool_loss", "fresh_loss", "relative_distance", "distance_to_general", "distance_to_memory"]
    assert list(figures) == [*drawn, "strategy_by_step"]
    assert figures["relative_distance"].axes[0].get_ylabel() == "examples in the prefix"
    assert figures["pool_loss"].axes[0].get_ylabel() == "nats"


@pytest.mark.parametrize(
    ("field", "value"),
    [("pool_size", [1]), ("models", {}), ("models", {"gru": STRATEGY | {"step": [1]}}), ("models", {"gru": 3}),
     ("models", {"gru": STRATEGY | {"relative": [0.1]}}), ("apart", {}), ("distance_in_words", 1)],
)  # fmt: skip
def test_a_section_that_does_not_fit_is_refused(field, value):
    broken = copy.deepcopy(document())
    broken["strategies"][field] = value
    with pytest.raises(InputError, match=r"^results\.strategies[^\n]*$"):
        check_results(broken)


def test_loss_and_regret_are_not_mixed():
    broken = document()
    del broken["diversity"]["loss_in_words"]
    with pytest.raises(InputError, match=r"^results\.diversity\.pool\.gru[^\n]*regret"):
        check_results(broken)


def test_experts_by_task_want_both_sequences_of_a_task():
    with pytest.raises(InputError, match=r"^batch_size: got 15, allowed: whole multiples of 2 sequences"):
        replaced(SMOKE, {"moe": "token-task", "batch_size": 15})
    recipe = replaced(SMOKE, {"moe": "token-task", "vary": (), "task_pool": 4})
    assert recipe.examples(0, 0).sequences_per_task == 2


@pytest.mark.nightly
def test_a_model_of_few_tasks_comes_to_predict_as_the_posterior_over_them(tmp_path):
    """600 steps on tasks of two weights: few are memorised (ratio .12 of the distances), many lead to the other one.

    Distance to ridge on 512 tasks over that on 4: .19; there both exact predictors are nearly one (.01 apart).
    """
    words = ["--dim", "2", "--horizon", "6", "--vary", "task_pool=4,512", "--train-steps", "600"]
    out = tmp_path / "run"
    assert main(["run", "task-diversity", *words, "--eval-tasks", "500", "--out", str(out)]) == 0
    model = read_results(out / "results.json")["strategies"]["models"]["transformer"]
    to_memory, to_general = (model[name]["mean"] for name in ("to_memory", "to_general"))
    print(to_memory, to_general, model["relative"])
    assert to_memory[0] <= 0.25 * to_general[0]
    assert to_general[1] <= 0.35 * to_general[0]
