"""Histories of others: stored as they are with a card that says what was assumed, or refused by their place."""

import dataclasses
import re

import numpy as np
import pytest
from recordings import SPEC, H, K, N, R, T, arrays

from icrl.cli import main
from icrl.core.errors import DamagedError, InputError
from icrl.datasets._tasks import Tasks
from icrl.datasets.foreign import found_in, store_histories
from icrl.datasets.histories import StoredHistories
from icrl.datasets.store import store_records
from icrl.envs._recorded import RecordedEnvironment

LONG = dataclasses.replace(SPEC, max_steps_in_episode=T)


@pytest.fixture
def folder(tmp_path):
    store_histories(tmp_path / "set", arrays(), SPEC, source="somebody", task_ids=[7, 3, 9, 1, 2])
    return tmp_path / "set"


def test_what_was_given_is_what_is_stored(folder):
    stored, given = StoredHistories(folder), arrays()
    record = stored.fetch(np.arange(N))
    np.testing.assert_array_equal(record["obs"], given["observations"].astype(np.float32), strict=True)
    np.testing.assert_array_equal(record["action"], given["actions"].astype(np.int32), strict=True)
    np.testing.assert_array_equal(record["reward"], given["rewards"].astype(np.float32), strict=True)
    np.testing.assert_array_equal(record["truncated"], given["truncated"], strict=True)
    over = given["truncated"]
    expected = np.roll(given["observations"], -1, axis=2)
    expected[over] = given["observations"][over]  # unknown: repeated
    np.testing.assert_array_equal(record["next_obs"], expected)


def test_the_card_says_where_they_come_from_and_what_was_assumed(folder):
    stored = StoredHistories(folder)
    assert stored.is_foreign and stored.card["source"] == "somebody" and stored.card["task_ids"] == [7, 3, 9, 1, 2]
    assert stored.card["foreign"]["from"] == "arrays" and "shifting" in stored.card["foreign"]["assumed"][0]
    env = stored.environment()
    assert isinstance(env, RecordedEnvironment) and env.num_tasks == N
    assert (env.spec.num_actions, env.spec.obs_shape, env.spec.obs_nvec) == (K, (2,), (4, 4))
    with pytest.raises(InputError, match="known from records alone and cannot be played"):
        env.default_params  # noqa: B018


def test_its_optimum_is_the_best_return_of_a_task(folder):
    stored = StoredHistories(folder)
    returns = arrays()["rewards"].astype(np.float32).reshape(N, R, T // H, H).sum(-1, dtype=np.float64)
    np.testing.assert_allclose(stored.table().optimal_return, np.repeat(returns.max((1, 2)), R))


def test_the_commands_that_look_at_histories_take_them(folder, tmp_path, capsys):
    assert main(["verify", str(folder)]) == 0
    assert main(["inspect", str(folder), "--png", str(tmp_path / "curves.png")]) == 0
    assert main(["filter", str(folder), "--filter", "lhf"]) == 0
    told = capsys.readouterr().out
    assert "of best" in told and "shifting" in told and "Elsewhere" in told


def test_true_next_observations_and_propensities_are_kept(tmp_path):
    given = arrays()
    after = np.roll(given["observations"], -1, axis=2)
    after[given["truncated"]] = 3
    chance = np.full((N, R, T), 0.25)
    store_histories(tmp_path / "a", {**given, "next_observations": after, "propensities": chance}, SPEC)
    stored = StoredHistories(tmp_path / "a")
    record = stored.fetch(np.arange(N))
    np.testing.assert_array_equal(record["next_obs"], after)
    np.testing.assert_array_equal(record["propensity"], chance)
    assert not any("shifting" in each for each in stored.card["foreign"]["assumed"])


def ragged():
    given, lengths = arrays(), [T - 2 * (task == 1) for task in range(N)]
    cut = {name: [[row[: lengths[task]] for row in field[task]] for task in range(N)] for name, field in given.items()}
    for field in cut.values():
        field[4] = field[4][:2]
    return cut


def test_unequal_histories_are_refused_or_cut_and_the_card_says_so(tmp_path):
    with pytest.raises(InputError, match="histories: got '22 to 24 steps, 2 to 3 a task', allowed: one length"):
        store_histories(tmp_path / "a", ragged(), SPEC)
    store_histories(tmp_path / "a", ragged(), SPEC, unequal="cut")
    stored = StoredHistories(tmp_path / "a")
    assert (stored.num_tasks, stored.num_histories, stored.num_steps) == (N, 2, 22)
    assert "cut to 2 histories of 22 steps a task, 110 of 330 left out" in stored.card["foreign"]["assumed"]


def test_episodes_that_are_cut_away_are_not_counted(tmp_path):
    """Of histories whose only end lies behind the cut none has one: filters see twentieths of them."""
    given = {name: [list(rows) for rows in field] for name, field in arrays().items()}
    for task in range(N):
        for row in range(R):
            given["truncated"][task][row] = np.arange(T) == T - 1
    for field in given.values():
        field[0][0] = field[0][0][:20]
    store_histories(tmp_path / "a", given, LONG, unequal="cut")
    assert StoredHistories(tmp_path / "a").card["episode_steps"] == 1


def test_propensities_of_some_tasks_alone_are_refused():
    read = [dict(zip(arrays(), rows, strict=True)) for rows in zip(*arrays().values(), strict=True)]
    read[1]["propensities"] = np.full((R, T), 0.5)
    with pytest.raises(InputError, match="task 0: propensities: got 'nothing', allowed: an array, as other tasks"):
        found_in(Tasks(range(N), lambda at: read[at], lambda at: f"task {at}"))


def spoiled(name, place, value):
    field = arrays()[name].astype(float if value != value else arrays()[name].dtype)
    field[place] = value
    return {name: field}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (spoiled("rewards", (3, 1, 17), np.nan), "task 3: rewards of history 1, step 17: got nan, allowed: a finite"),
        (spoiled("actions", (2, 0, 3), 7), r"task 2: actions of history 0, step 3: got 7, allowed: an integer in \[0"),
        (spoiled("observations", (1, 2, 4, 1), 9), r"task 1: observations of history 2, step 4: got 9, allowed: integ"),
        (spoiled("observations", (1, 2, 4, 1), np.nan), "task 1: observations of history 2, step 4: got nan, allowed"),
        ({"actions": np.zeros((N, R, T, 2))}, "task 0: actions: got 'float64', allowed: integers; continuous actions"),
        ({"truncated": np.full((N, R, T), 2)}, "task 0: truncated of history 0, step 0: got 2, allowed: true or false"),
        ({"truncated": np.zeros((N, R, T), bool)}, "episodes: got '24 steps without a flag', allowed: at most H = 6"),
        ({"truncated": np.arange(N * R * T).reshape(N, R, T) == 5}, "episodes of history 1: got 'none that ends'"),
        ({"next_observations": arrays()["observations"]}, "task 0: next_observations of history 0, step 0: got 'anot"),
        ({"propensities": np.zeros((N, R, T))}, r"propensities of history 0, step 0: got 0.0, allowed: a number in \("),
        ({"rewards": np.zeros((N, R, T - 1))}, "task 0: rewards: got '3 histories of 23 steps', allowed: 3 histories"),
        ({"rewards": np.zeros((N - 1, R, T))}, "rewards: got '4 tasks', allowed: 5"),
        ({"extra": np.zeros(N)}, "arrays: got .*'extra'.*, allowed: observations, actions"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place_and_nothing_stays(tmp_path, changes, said):
    with pytest.raises(InputError, match=said) as caught:
        store_histories(tmp_path / "set", arrays(**changes), SPEC)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_an_environment_that_its_card_cannot_mean_is_damage(folder, tmp_path):
    stored = StoredHistories(folder)
    card = {name: value for name, value in stored.card.items() if name not in ("shard_tasks", "format", "num_tasks")}
    store_records(tmp_path / "odd", stored.fetch, N, {**card, "env": {**card["env"], "obs_shape": "2x"}})
    with pytest.raises(DamagedError, match=re.escape("obs_shape: got '2x'")):
        StoredHistories(tmp_path / "odd").environment()
