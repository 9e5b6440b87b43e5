"""Recipes whose variants, data and competitors differ: each model plays within its memory, in tasks it never saw."""

import numpy as np
import pytest

from icrl.cli import main
from icrl.core.errors import InputError, ResourceError
from icrl.core.registry import experiments
from icrl.core.settings import replaced
from icrl.core.tasks import TaskSet
from icrl.datasets.histories import StoredHistories
from icrl.recipes import data
from icrl.recipes.competitors import competing
from icrl.recipes.fits import check_fit
from icrl.recipes.preflight import check_disk
from icrl.recipes.pretraining import RecipeExperiment
from icrl.storage.publish import read_json

AD, DPT = (experiments[name].presets["smoke"] for name in ("ad", "dpt"))
QUICK = ["--train-steps", "4", "--save-every", "4", "--warmup-steps", "1"]


def run(tmp_path, name, *words):
    """Exit code of a run, and its folder."""
    folder = tmp_path / "run"
    return main(["run", name, "--preset", "smoke", *QUICK, "--out", str(folder), *words]), folder


def test_a_variant_with_a_short_context_rolls_it_over_the_evaluation_that_all_share():
    base = replaced(DPT, {"vary": ("context_steps=10,40",), "eval_steps": 40})
    derived = replaced(DPT, {"vary": ("context_steps=5,20",)})  # T follows from the base: 20
    for recipe in (base, derived):
        short, long = recipe.variants().values()
        assert short.eval_steps == long.eval_steps == recipe.eval_steps
        assert (short.rules, long.rules) == (("rolling",), ("whole",))
        assert short.agent(short.new_policy(0, 0)).capacity is None


@pytest.mark.parametrize("vary", ["split_seed=0,1", "train_fraction=0.5,0.75", "size=3,4", "horizon=6,8"])
def test_what_decides_the_held_out_tasks_is_the_same_for_all_variants(vary):
    with pytest.raises(InputError, match=r"^vary: got [^\n]*all share this one$"):
        replaced(AD, {"vary": (vary,)}).variants()


def test_no_competitors_are_no_competitors(tmp_path):
    code, folder = run(tmp_path, "dpt", "--competitors", "")
    assert code == 0
    assert set(read_json(folder / "results.json")["online"]["agents"]) == {"DPT"}


def test_all_competitors_and_one_that_plays_if_named():
    recipe = replaced(DPT, {"competitors": ("all", "dirichlet-mix")})
    field = competing(recipe.env, recipe.evaluation.competitors)
    assert {"dirichlet-mix", "ucb1"} <= field.players.keys()
    assert "mixture" in field.refused


def test_a_named_competitor_that_ignores_the_observation_is_refused_where_there_are_states():
    with pytest.raises(InputError, match="competitors: ucb does not fit DarkRoom: ignores the observation"):
        check_fit(replaced(AD, {"competitors": ("ucb",)}))


@pytest.mark.parametrize("layout", ["pairs", "interleaved"])
def test_dpt_trains_on_collected_contexts_of_a_numbered_family(layout, tmp_path, capsys):
    words = ["--env", "DarkRoom-v0", "--size", "4", "--horizon", "6", "--context-steps", "12", "--layout", layout]
    stored = tmp_path / "data"
    assert main(["collect", "dpt", "--preset", "smoke", "--num-tasks", "64", "--out", str(stored), *words]) == 0
    assert run(tmp_path, "dpt", "--data", str(stored), *words)[0] == 0
    assert main(["run", "dpt", "--preset", "smoke", "--data", str(stored), "--out", str(tmp_path / "x"), *words,
                 "--split-seed", "1"]) == 2  # fmt: skip
    assert "task_ids differ" in capsys.readouterr().err


def test_contexts_with_another_number_of_queries_are_refused(tmp_path, capsys):
    words = ["--env", "DarkRoom-v0", "--size", "4", "--horizon", "6", "--context-steps", "12"]
    stored = str(tmp_path / "data")
    assert main(["collect", "dpt", "--preset", "smoke", "--num-tasks", "8", "--out", stored, *words]) == 0
    words += ["--layout", "query-first", "--context", "last-episode", "--data", stored]
    assert main(["run", "dpt", "--preset", "smoke", "--out", str(tmp_path / "run"), *words]) == 2
    assert "num_queries differ" in capsys.readouterr().err


def test_histories_of_another_mixture_are_refused(tmp_path, capsys):
    stored, mix = str(tmp_path / "data"), "0.5*q-learning+0.5*uniform"
    assert main(["collect", "ad", "--preset", "smoke", "--source", mix, "--num-tasks", "6", "--out", stored]) == 0
    assert run(tmp_path, "ad", "--data", stored, "--source", mix)[0] == 0
    other = ["--source", "0.1*q-learning+0.9*uniform", "--out", str(tmp_path / "x")]
    assert main(["run", "ad", "--preset", "smoke", "--data", stored, *other]) == 2
    assert "source differ" in capsys.readouterr().err


def test_more_histories_than_there_are_tasks_are_refused(tmp_path, capsys):
    words = ["--num-tasks", "7", "--out", str(tmp_path / "data")]
    assert main(["collect", "ad", "--preset", "smoke", *words]) == 2
    assert "num-tasks: got 7, allowed: an integer in [1, 6]" in capsys.readouterr().err


def test_parts_that_do_not_fit_are_refused_before_anything_is_collected(tmp_path, capsys):
    words = ["--source", "linucb", "--num-tasks", "2", "--out", str(tmp_path / "data")]
    assert main(["collect", "ad", "--preset", "smoke", *words]) == 2
    assert "source: linucb does not fit DarkRoom: features:" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_stored_histories_are_read_once_for_all_models_that_share_them(tmp_path, monkeypatch):
    read = []
    before = data.PooledHistories.on_device
    monkeypatch.setattr(data.PooledHistories, "on_device", lambda self: read.append(self) or before(self))
    assert run(tmp_path, "ad", "--vary", "filter=keep-all,lhf", "--train-seeds", "2")[0] == 0
    assert len(read) == 1


def test_a_filter_that_leaves_less_than_a_window_is_refused(tmp_path, capsys):
    words = ["--filter", "late-half", "--context-steps", "36"]  # of 60 steps, 30 are left
    code, _ = run(tmp_path, "ad", *words)
    assert code == 2
    assert "first: got" in capsys.readouterr().err


def test_readers_see_a_variant_by_its_label():
    class Labelled(RecipeExperiment):
        labels = {"width 8": "small", "width 16": "large"}

    recipe = replaced(DPT, {"vary": ("width=8,16",)})
    assert list(Labelled.variants(recipe)) == Labelled.kinds(recipe) == ["small", "large"]


def test_drawn_tasks_are_those_of_the_stream():
    env = DPT.env
    some, every = TaskSet.draw_ids(env, 3, "here", [4, 1]), TaskSet.draw(env, 3, "here", 6)
    np.testing.assert_array_equal(some.params.means, every.params.means[np.array([4, 1])])


def test_a_card_names_the_source_and_the_segment(tmp_path):
    out = tmp_path / "data"
    words = ["--env", "BernoulliBandit-v0", "--horizon", "40", "--source", "ucb1", "--context-steps", "40"]
    words += ["--history-steps", "40", "--num-tasks", "3", "--out", str(out)]
    assert main(["collect", "ad", "--preset", "smoke", *words]) == 0
    stored = StoredHistories(out)
    assert (stored.card["source"], stored.card["episode_steps"], stored.card["drawn"]) == ("ucb1", 2, "pretrain/task")
    best = np.asarray(stored.card["optimal_return"])  # of two pulls
    assert ((best > 0) & (best <= 2)).all()


def test_histories_of_a_world_whose_episodes_end_early(tmp_path):
    """AD with a filter: the first T // H episodes of every rollout, of which the optimum wins each."""
    code, folder = run(tmp_path, "ad", "--env", "Corridor-v0", "--source", "q-learning", "--filter", "lhf")
    assert code == 0
    found = read_json(folder / "results.json")["episodes"]
    assert found["episode"] == [1, 2, 3]
    assert found["agents"]["oracle"]["returns"]["mean"] == [1.0, 1.0, 1.0]
    assert 0.0 < np.mean(found["agents"]["uniform"]["returns"]["mean"]) < 1.0
    assert not [name for name in found["agents"] if name.startswith("q-learning")]  # its returns are of H steps


def test_windows_and_given_episodes_are_not_cut_by_H_where_episodes_end_early():
    forget = [replaced(AD, {"env": env, "context_steps": 40}).forget for env in ("RiverSwim-v0", "Corridor-v0")]
    assert forget == [20, 10]  # both have H = 20
    given = replaced(DPT, {"env": "Corridor-v0", "context": ("last-episode",), "given": ("uniform",)})
    with pytest.raises(InputError, match=r"^given: got 'uniform', allowed: none; a given context is an episode of 20"):
        check_fit(given)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("task-diversity-bandit", "--vary", "model=transformer,gru"), "vary: got"),
        (("task-diversity-bandit", "--competitors", "uniform"), "competitors: got 'uniform', allowed: thompson-bern"),
        (("task-diversity-bandit", "--env", "GaussianBandit-v0"), "env: got 'GaussianBandit', allowed: Bernoulli"),
    ],
)
def test_what_an_experiment_compares_with_is_there_before_anything_is_trained(words, told, tmp_path, capsys):
    assert main(["run", *words, "--preset", "smoke", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.nightly
def test_models_are_compared_where_no_exact_posterior_is_known(tmp_path):
    words = ["--env", "RiverSwim-v0", "--layout", "pairs", "--train-seeds", "2", "--competitors", "uniform,oracle"]
    run = ["run", "compare-models", "--preset", "smoke", "--out", str(tmp_path / "run"), *words]
    assert main(run) == 0
    table = read_json(tmp_path / "run" / "results.json")["tables"][0]
    assert [(row[3], row[5]) for row in table["rows"]] == [("-", "-"), ("-", "-")]


def test_data_that_are_there_already_need_no_room(tmp_path, monkeypatch):
    """A run that goes on, or that trains on ``--data``, collects nothing: a disk without room does not stop it."""
    monkeypatch.setattr("icrl.core.resources.shutil.disk_usage", lambda _: type("Disk", (), {"free": 10.0})())
    env = experiments["ad"].presets["smoke"].env
    check_disk(env, tmp_path, 10**12)
    with pytest.raises(ResourceError, match="the collection needs at least"):
        check_disk(env, tmp_path / "new", 10**3)
