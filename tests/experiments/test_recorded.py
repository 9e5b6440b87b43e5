"""AD on histories of an environment that is not here: trained as always, judged by histories that are held out."""

import json

import numpy as np
import pytest
from recordings import SPEC, H, K, N, R, T, arrays

import icrl
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.types import EnvSpec
from icrl.datasets.contexts import StoredContexts
from icrl.datasets.foreign import store_histories
from icrl.envs.dark_room import DarkRoom
from icrl.recipes import run as runs
from icrl.recipes.data import RunData
from icrl.recipes.held_out import held_out_sections, held_out_windows
from icrl.recipes.recorded import split_rows

TASKS, EACH, STEPS = 12, 4, 60


def improving(tasks=TASKS, each=EACH, steps=STEPS):
    """Histories of a learner that finds the best of three arms, another one in each task."""
    draw = np.random.default_rng(0)
    best = (np.arange(tasks) % 3)[:, None, None]
    knows = draw.random((tasks, each, steps)) < np.arange(steps) / steps
    action = np.where(knows, best, draw.integers(0, 3, knows.shape))
    return {
        "observations": np.zeros((*action.shape, 1)),
        "actions": action,
        "rewards": (action == best) * 1.0,
        "terminated": np.zeros(action.shape, bool),
        "truncated": np.broadcast_to(np.arange(steps) % 5 == 4, action.shape),
    }


ARMS = EnvSpec("Arms", 3, (1,), 0, 1, 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "data"
    store_histories(folder, improving(), ARMS)
    return folder


@pytest.fixture(scope="module")
def trained(data):
    out = data.parent / "run"
    flags = ["--preset", "smoke", "--filter", "lhf", "--train-steps", "60"]
    assert main(["run", "ad", "--data", str(data), "--out", str(out), *flags]) == 0
    return out


def settings_on(folder, **values):
    return runs.settings_of("ad", "smoke", {"data": str(folder), **values})


def test_the_settings_follow_from_the_card(data):
    recipe = settings_on(data)
    assert recipe.env.is_recorded and recipe.env.spec.name == "Arms"
    assert (recipe.data.histories, recipe.history_steps, recipe.segment) == (EACH, STEPS, 5)
    assert settings_on(data, env="DarkRoom-v0").env == DarkRoom(size=4, horizon=6)


def test_the_report_tells_of_held_out_histories_and_of_no_environment(trained):
    results = json.loads((trained / "results.json").read_text())
    assert "There is no environment of Arms to play in" in results["claim"]
    assert results["online"] is None and results["episodes"] is None and results["num_tasks"] == 3
    assert results["cross_entropy"]["ideal"] is None and results["cross_entropy"]["over"] == "3 held-out tasks"
    model, often, alike = results["tables"][0]["rows"]
    assert (model[0], often[0]) == ("AD", "actions as often as in training")
    assert alike[1]["mean"] == pytest.approx(np.log(3))
    assert model[3]["mean"] < np.log(3) - 0.05, "nothing was learned in context"
    assert main(["verify", str(trained)]) == 0


def test_no_model_is_trained_on_what_it_is_judged_by(trained):
    recipe = runs.reopen(trained).settings
    train, held_out = split_rows(recipe, TASKS * EACH)
    assert len(held_out) == 3 * EACH and not set(train) & set(held_out)
    chosen = json.loads(next((trained / "data").glob("selection-*.json")).read_text())["index"]
    assert set(chosen) <= set(train.tolist()) and len(set(chosen)) > 1
    windows, units, *_ = held_out_windows(recipe, trained, 0)
    given = improving()["actions"].reshape(-1, STEPS)
    for row, action in zip(np.repeat(held_out, len(units) // len(held_out)), np.asarray(windows.action), strict=True):
        cuts = np.lib.stride_tricks.sliding_window_view(given[row], len(action))
        assert (cuts == action).all(1).any(), "a window of another history"
    np.testing.assert_array_equal(np.bincount(units), np.full(3, len(units) // 3))


def test_the_agent_plays_where_the_spaces_fit(trained):
    agent = icrl.load_agent(trained)
    agent.reset(seed=0)
    for _ in range(70):
        action = agent.act(np.zeros(1, np.float32))
        agent.observe(np.zeros(1, np.float32), action, float(action == 1), np.zeros(1, np.float32), False, False)
    assert action in range(3)


def test_single_histories_are_held_out_of_few_tasks(tmp_path):
    store_histories(tmp_path / "data", improving(1, 20), ARMS)
    recipe = settings_on(tmp_path / "data")
    train, held_out = split_rows(recipe, 20)
    assert len(train) == 15 and sorted([*train, *held_out]) == list(range(20))
    runs.experiments["ad"].validate(recipe, 0)


def test_one_history_is_refused_with_what_to_do(tmp_path):
    store_histories(tmp_path / "data", improving(1, 1), ARMS)
    with pytest.raises(InputError, match=r"enough to hold some out .*; import shorter histories: --history-steps"):
        runs.experiments["ad"].validate(settings_on(tmp_path / "data"), 0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"objective": "dpt"}, "objective: got 'dpt', allowed: ad with data histories"),
        ({"objective": "rl2"}, "objective: got 'rl2', allowed: ad; nobody can act in Arms, its records are all"),
        ({"source": ("ucb",)}, "source: got .*, allowed: none: nothing is collected in Arms"),
        ({"noisy_fraction": 0.5}, "noisy_fraction: got 0.5, allowed: 0.0|none: nothing is collected in Arms"),
        ({"histories": 3}, "histories: got 3, allowed: 4, as .* has; leave it out"),
        ({"tune": "grid"}, "tune: got 'grid', allowed: none: nobody plays in Arms"),
        ({"env": "DarkRoom-v0"}, "env: got 'DarkRoom.*', allowed: one with the num_actions of .*: 3, not 5"),
        ({"context_steps": 100}, "context_steps: got 100"),
    ],
)
def test_what_needs_an_environment_is_refused(data, values, said):
    with pytest.raises(InputError, match=said) as caught:
        runs.experiments["ad"].validate(settings_on(data, **values), 0)
    assert "\n" not in str(caught.value)


def test_a_recorded_environment_needs_its_records():
    with pytest.raises(InputError, match="allowed: a folder of `icrl import`"):
        runs.experiments["ad"].validate(runs.settings_of("ad", "smoke", {"env": "recorded"}), 0)


@pytest.mark.nightly
def test_models_trained_on_foreign_histories_play_in_an_environment_that_is_here(tmp_path):
    spec = EnvSpec("TheirRoom", 5, (2,), 0, 3, 6, (4, 4))
    given = arrays()
    store_histories(tmp_path / "data", {**given, "actions": given["actions"] % 5}, spec)
    flags = ["--preset", "smoke", "--env", "DarkRoom-v0", "--size", "4", "--horizon", "6", "--context-steps", "12"]
    command = ["run", "ad", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *flags]
    assert main(command) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["online"]["agents"].keys() >= {"AD", "uniform", "oracle"}
    assert not any("q-learning" in name for name in results["episodes"]["agents"])
    assert (N, R, T, H, K, SPEC.num_actions) == (5, 3, 24, 6, 3, 3)


@pytest.fixture
def contexts(tmp_path):
    """An imported set of 24 contexts of DPT, two of each task."""
    draw = np.random.default_rng(0)
    means = np.repeat(draw.random((12, K)), 2, axis=0)
    action = draw.integers(0, K, (24, 10))
    np.savez(
        tmp_path / "arms.npz",
        context_states=np.ones((24, 10, 1)), context_next_states=np.ones((24, 10, 1)),
        context_rewards=means[np.arange(24)[:, None], action], context_actions=np.eye(K)[action],
        query_state=np.ones((24, 1)), optimal_action=np.eye(K)[means.argmax(1)],
    )  # fmt: skip
    command = ["import", str(tmp_path / "arms.npz"), str(tmp_path / "data"), "--format", "dpt", "--each", "2"]
    assert main(command) == 0
    return tmp_path / "data"


def test_dpt_is_trained_on_imported_contexts_and_judged_by_others(contexts, tmp_path):
    recipe = runs.settings_of("dpt", "smoke", {"data": str(contexts), "batch_size": 6, "train_fraction": 0.75})
    runs.experiments["dpt"].validate(recipe, 0)
    train, held_out = split_rows(recipe, 24)
    assert {row // 2 for row in train} | {row // 2 for row in held_out} == set(range(12))
    assert not {row // 2 for row in train} & {row // 2 for row in held_out}, "a task on both sides"
    stored, batches = StoredContexts(contexts).fetch(np.arange(24)), RunData(tmp_path, 0).batches(recipe, 0)
    seen = np.concatenate([np.asarray(batches(step).history.reward) for step in range(20)])
    rewards = np.asarray(stored.history.reward)
    assert {row.tobytes() for row in seen} == {row.tobytes() for row in rewards[train]}
    sections = held_out_sections({"DPT": (recipe, [recipe.new_policy(0, 0)])}, tmp_path, 0)
    assert sections["cross_entropy"]["what"] == "the label" and sections["num_tasks"] == len(held_out) / 2
    assert sections["cross_entropy"]["prefix"][-1] == 10
    labelled = runs.settings_of("dpt", "smoke", {"data": str(contexts), "label": "ucb"})
    with pytest.raises(InputError, match="label: got 'ucb', allowed: none: nothing is collected in arms"):
        runs.experiments["dpt"].validate(labelled, 0)
