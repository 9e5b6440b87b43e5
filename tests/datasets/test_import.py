"""``icrl import``: each layout becomes the histories that it holds, or is refused by file, place, field."""

import csv
import json
import shutil
import subprocess
import sys

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from recordings import SPEC, K, N, R, T, arrays

from icrl.cli import main
from icrl.core.registry import agents, importers
from icrl.core.settings import flat
from icrl.datasets import store_histories
from icrl.datasets.contexts import StoredContexts
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_collected
from icrl.envs.dark_room import DarkRoomHard


def imported(source, tmp_path, *flags):
    """The set that the command makes of ``source``."""
    assert main(["import", str(source), str(tmp_path / "set"), *flags]) == 0
    return StoredHistories(tmp_path / "set")


def refusal(capsys, source, tmp_path, *flags) -> str:
    """The one line with which a source is refused; nothing of it stays."""
    capsys.readouterr()
    assert main(["import", str(source), str(tmp_path / "bad"), *flags]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("icrl: ")]
    assert len(lines) == 1 and not (tmp_path / "bad").exists()
    return lines[0]


def same(stored, given):
    record = stored.fetch(np.arange(stored.num_tasks))
    for name, field in (("obs", "observations"), ("action", "actions"), ("reward", "rewards")):
        np.testing.assert_array_equal(record[name], given[field].astype(record[name].dtype), err_msg=name)
    for name in ("terminated", "truncated"):
        np.testing.assert_array_equal(record[name], given[name], err_msg=name)


def real(seed=0):
    """Histories with observations of real numbers."""
    given = arrays(seed)
    return {**given, "observations": np.random.default_rng(seed).normal(size=(N, R, T, 2)).astype(np.float32)}


# --- archives and HDF5 under documented names ---


def test_an_archive_of_all_tasks_or_a_folder_with_one_each_is_the_same(tmp_path):
    given = real()
    np.savez(tmp_path / "all.npz", **given)
    (tmp_path / "each").mkdir()
    for task in range(N):
        np.savez(tmp_path / "each" / f"{task + 8}.npz", **{name: field[task] for name, field in given.items()})
    stored = imported(tmp_path / "all.npz", tmp_path)
    same(stored, given)
    assert stored.environment().spec.num_actions == K and not stored.environment().spec.obs_nvec
    assert any("K = 3 actions" in each for each in stored.card["foreign"]["assumed"])
    assert main(["import", str(tmp_path / "each"), str(tmp_path / "b"), "--format", "npz"]) == 0
    same(StoredHistories(tmp_path / "b"), given)  # 8, 9, 10: in the order of their numbers


def test_settings_say_what_arrays_do_not(tmp_path):
    np.savez(tmp_path / "all.npz", **arrays())
    stored = imported(tmp_path / "all.npz", tmp_path, "--num-actions", "5", "--obs-states=4")
    assert stored.environment().spec.num_actions == 5 and stored.environment().spec.obs_nvec == (4, 4)


def test_hdf5_of_groups_or_of_whole_arrays(tmp_path):
    given = real()
    with h5py.File(tmp_path / "groups.h5", "w") as groups, h5py.File(tmp_path / "whole.hdf5", "w") as whole:
        for name, field in given.items():
            whole[name] = field
            for task in range(N):
                groups[f"task {task}/{name}"] = field[task]
    same(imported(tmp_path / "groups.h5", tmp_path), given)
    assert main(["import", str(tmp_path / "whole.hdf5"), str(tmp_path / "b")]) == 0
    same(StoredHistories(tmp_path / "b"), given)


def test_data_of_other_files_are_not_followed(tmp_path, capsys):
    with h5py.File(tmp_path / "secret.h5", "w") as other:
        other["x"] = np.zeros((N, R, T))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, field in real().items():
            file[name] = field
        del file["rewards"]
        file["rewards"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "x")
    assert "rewards: got a link, allowed: what is in this file" in refusal(capsys, tmp_path / "a.h5", tmp_path)


def test_nothing_is_unpickled(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **{**real(), "rewards": np.array([{"a": 1}], object)})
    assert "holds pickled objects, allowed: arrays of numbers" in refusal(capsys, tmp_path / "a.npz", tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rewards": None}, "a.npz: rewards: missing; known: actions"),
        ({"rewards": np.full((N, R, T), np.nan)}, "a.npz: task 0: rewards of history 0, step 0: got nan, allowed: a f"),
        ({"actions": np.zeros((N, R, T, 1))}, "actions: shape: got (5, 3, 24, 1), allowed: [N, R, T], [R, T] or [T]"),
        ({"actions": np.zeros((N, R, T))}, "a.npz: task 0: actions: got 'float64', allowed: integers; continuous"),
    ],
)
def test_an_archive_is_refused_by_file_and_field(tmp_path, capsys, change, said):
    given = {name: field for name, field in {**real(), **change}.items() if field is not None}
    np.savez(tmp_path / "a.npz", **given)
    assert said in refusal(capsys, tmp_path / "a.npz", tmp_path)


def test_what_is_no_source_is_refused(tmp_path, capsys):
    (tmp_path / "a.npz").write_bytes(b"not an archive")
    (tmp_path / "a.h5").write_bytes(b"not HDF5")
    (tmp_path / "a.txt").write_text("x")
    assert "allowed: an .npz archive of arrays" in refusal(capsys, tmp_path / "a.npz", tmp_path)
    assert "allowed: an HDF5 file" in refusal(capsys, tmp_path / "a.h5", tmp_path)
    assert "format: a.txt does not tell it; allowed: --format csv, dpt" in refusal(capsys, tmp_path / "a.txt", tmp_path)
    assert "source: got" in refusal(capsys, tmp_path / "b.npz", tmp_path, "--format", "npz")
    assert "unknown importer 'np'" in refusal(capsys, tmp_path / "a.npz", tmp_path, "--format", "np")
    assert "did you mean --history-steps" in refusal(capsys, tmp_path, tmp_path, "--format=csv", "--history-step", "3")


# --- layouts of papers ---


def test_xland_is_unpacked_into_tiles_and_colours(tmp_path):
    given, draw = arrays(), np.random.default_rng(1)
    tile, colour = draw.integers(0, 13, (N, R, T, 5, 5)), draw.integers(0, 12, (N, R, T, 5, 5))
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        for task in range(N):
            group = file.create_group(str(task))
            group.attrs.update({"env-id": "XLand-MiniGrid-R1-9x9", "benchmark-id": "trivial-1m", "ruleset-id": 7})
            group["states"] = (tile * 12 + colour)[task].astype(np.uint8)
            group["actions"], group["dones"] = given["actions"][task].astype(np.uint8), given["truncated"][task]
            group["rewards"] = given["rewards"][task].astype(np.float16)
    stored = imported(tmp_path / "x.hdf5", tmp_path, "--format", "xland", "--num-actions", "6")
    record = stored.fetch(np.arange(N))
    np.testing.assert_array_equal(record["obs"], np.stack([tile, colour], -1))
    np.testing.assert_array_equal(record["terminated"], given["truncated"])
    assert stored.environment().spec.obs_nvec == (13, 12) * 25 and stored.card["foreign"]["benchmark"] == "trivial-1m"
    assert stored.environment().spec.name == "XLand-MiniGrid-R1-9x9"


def test_icrl4aht_has_time_first_and_streams_for_histories(tmp_path):
    given = real()
    for task in range(N):
        (tmp_path / "src" / f"task_{task}").mkdir(parents=True)
        obs, action, reward, over = (given[name][task] for name in ("observations", "actions", "rewards", "truncated"))
        np.savez(
            tmp_path / "src" / f"task_{task}" / "history.npz",
            obs_t=obs.swapaxes(0, 1), act_t=action.T, rew_t=reward.T, done_t=over.T, teammate_act_t=action.T,
        )  # fmt: skip
    same(imported(tmp_path / "src", tmp_path, "--format", "icrl4aht"), given)


@pytest.mark.parametrize("one_hot", [True, False])
def test_t2mir_has_a_history_a_task(tmp_path, one_hot):
    given = {name: field[:, :1] for name, field in real().items()}
    states = np.random.default_rng(2).normal(size=(N, T + 1, 2)).astype(np.float32)
    given["observations"] = states[:, None, :-1]
    (tmp_path / "src").mkdir()
    for task in range(N):
        action = given["actions"][task, 0]
        np.savez(
            tmp_path / "src" / f"dataset_task_{task}.npz",
            states=states[task, :-1], next_states=states[task, 1:], actions=np.eye(K)[action] if one_hot else action,
            rewards=given["rewards"][task, 0][:, None], dones=given["truncated"][task, 0], masks=np.ones((T, 1)),
        )  # fmt: skip
    stored = imported(tmp_path / "src", tmp_path, "--format", "t2mir")
    same(stored, given)
    np.testing.assert_array_equal(stored.fetch(np.arange(N))["next_obs"][:, 0], states[:, 1:])


def test_continuous_actions_of_t2mir_are_refused(tmp_path, capsys):
    fields = {name: np.zeros((2, T, 2)) for name in ("states", "next_states", "actions")}
    flags = {name: np.zeros((2, T)) for name in ("rewards", "dones", "masks")}
    np.savez(tmp_path / "a.npz", **{**fields, "actions": fields["actions"] + 0.3}, **flags)
    said = refusal(capsys, tmp_path / "a.npz", tmp_path, "--format", "t2mir")
    assert "a.npz: task 0: actions: got 'float64 of shape (24, 2)', allowed: integers, or one-hot; continuous" in said


def test_contexts_of_dpt_keep_their_queries_and_labels(tmp_path):
    draw, one_hot = np.random.default_rng(0), np.eye(K)
    action, label = draw.integers(0, K, (6, 9)), draw.integers(0, K, 6)
    states, query = draw.integers(0, 4, (6, 9, 2)), draw.integers(0, 4, (6, 2))
    reward = draw.normal(size=(6, 9))
    np.savez(
        tmp_path / "a.npz",
        context_states=states, context_next_states=states, context_rewards=reward, context_actions=one_hot[action],
        query_state=query, optimal_action=one_hot[label],
    )  # fmt: skip
    assert main(["import", str(tmp_path / "a.npz"), str(tmp_path / "set"), "--format=dpt", "--obs-states", "4"]) == 0
    found = StoredContexts(tmp_path / "set").fetch(np.arange(6))
    np.testing.assert_array_equal(found.history.action, action)
    np.testing.assert_array_equal(found.history.obs, states)
    np.testing.assert_array_equal(found.query[:, 0], query)
    np.testing.assert_array_equal(found.label[:, 0], label)
    np.testing.assert_array_equal(found.history.reward, reward.astype(np.float32))
    assert main(["verify", str(tmp_path / "set")]) == 0


# --- logs of bandits ---


def write_log(path, rows, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


COLUMNS = ("context_0", "context_1", "action", "reward", "propensity")


def log(count=100):
    draw = np.random.default_rng(0)
    return [
        [float(draw.normal()), int(draw.integers(9)), int(draw.integers(K)), int(draw.integers(2)), 0.25]
        for _ in range(count)
    ]


def test_a_log_becomes_histories_in_its_order(tmp_path):
    rows = log(107)
    stored = imported(write_log(tmp_path / "a.csv", rows, COLUMNS), tmp_path)
    assert (stored.num_tasks, stored.num_histories, stored.num_steps) == (1, 10, 10)
    record, kept = stored.fetch(np.arange(1)), np.array(rows[:100])
    np.testing.assert_array_equal(record["obs"].reshape(100, 2), kept[:, :2].astype(np.float32))
    np.testing.assert_array_equal(record["action"].reshape(100), kept[:, 2])
    np.testing.assert_array_equal(record["propensity"], np.full((1, 10, 10), 0.25, np.float32))
    assert not (record["terminated"] | record["truncated"]).any()


def test_rows_of_several_tasks_are_told_apart(tmp_path):
    rows = [[*row, "ab"[number % 2]] for number, row in enumerate(log(60))]
    path = write_log(tmp_path / "a.csv", rows, (*COLUMNS, "store"))
    stored = imported(path, tmp_path, "--task", "store", "--history-steps", "15", "--categories", "context_1")
    assert (stored.num_tasks, stored.num_histories, stored.num_steps) == (2, 2, 15)
    np.testing.assert_array_equal(stored.fetch(np.array([1]))["action"].reshape(30), [row[2] for row in rows[1::2]])


def test_open_bandit_logs_are_read_by_their_own_columns(tmp_path):
    columns = ("", "timestamp", "item_id", "position", "click", "propensity_score", "user_feature_0", "user-item_aff_0")
    rows = [[i, "2019-11-24", i % 5, 1 + i % 3, i % 2, 0.2, "abcd"[i % 4], 0.5] for i in range(60)]
    stored = imported(write_log(tmp_path / "a.csv", rows, columns), tmp_path, "--format", "obp")
    record = stored.fetch(np.arange(1))
    assert record["obs"].shape == (1, 10, 6, 3 + 4) and stored.environment().spec.num_actions == 5
    expected = np.concatenate([np.eye(3)[np.arange(60) % 3], np.eye(4)[np.arange(60) % 4]], 1)
    np.testing.assert_array_equal(record["obs"].reshape(60, 7), expected)


@pytest.mark.parametrize(
    ("row", "column", "cell", "said"),
    [
        (7, 4, 0, r"a.csv: line 9: propensity: got 0.0, allowed: a number in (0, 1], how likely the action was"),
        (7, 4, "", "a.csv: line 9: propensity: got '', allowed: a number; it is missing"),
        (2, 3, "nan", "a.csv: line 4: reward: got 'nan', allowed: a finite number"),
        (2, 2, 1.5, "a.csv: line 4: action: got 1.5, allowed: an integer in [0, 65535]"),
        (2, 0, "red", "a.csv: line 4: context_0: got 'red', allowed: a number"),
    ],
)
def test_a_cell_is_refused_by_file_line_and_column(tmp_path, capsys, row, column, cell, said):
    rows = log()
    rows[row][column] = cell
    assert said in refusal(capsys, write_log(tmp_path / "a.csv", rows, COLUMNS), tmp_path)


def test_a_missing_column_or_cell_is_named(tmp_path, capsys):
    path = write_log(tmp_path / "a.csv", log(), ("context_0", "context_1", "action", "rewards", "propensity"))
    assert "a.csv: column 'reward': missing; did you mean rewards" in refusal(capsys, path, tmp_path)
    path = write_log(tmp_path / "a.csv", [log()[0], log()[1][:4]], COLUMNS)
    assert "a.csv: line 3: cells: got 4, allowed: 5, as the header has" in refusal(capsys, path, tmp_path)
    assert "a.csv: no row: " not in refusal(capsys, write_log(tmp_path / "a.csv", [], COLUMNS), tmp_path)


# --- Minari ---


ENV = DarkRoomHard(size=4, horizon=6)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("histories") / "data"
    made = HistoryGenerator(ENV, (Part(agents["q-learning"].for_env(ENV), 3),), 32, np.array([3, 0, 9]), 7)
    store_collected(folder, made, {"env": {"id": ENV.name, **flat(ENV)}, "source": "QLearning", "seed": 7})
    return folder


def test_a_set_of_ours_comes_back_with_its_digest(own, tmp_path):
    assert main(["export", str(own), str(tmp_path / "room-v0")]) == 0
    stored = imported(tmp_path / "room-v0", tmp_path)
    assert stored.digest == StoredHistories(own).digest
    assert not stored.is_foreign and stored.env_id == "DarkRoomHard-v0"


def test_a_part_or_a_changed_set_is_somebody_elses(own, tmp_path):
    assert main(["export", str(own), str(tmp_path / "part-v0"), "--histories", "1:3"]) == 0
    assert main(["export", str(own), str(tmp_path / "whole-v0")]) == 0
    with h5py.File(tmp_path / "whole-v0" / "data" / "main_data.hdf5", "a") as file:
        file["episode_2/rewards"][1] = 0.5
    part = imported(tmp_path / "part-v0", tmp_path)
    assert part.is_foreign and part.card["task_ids"] == [3, 0, 9] and part.num_histories == 2
    np.testing.assert_array_equal(part.fetch([1])["action"][0], StoredHistories(own).fetch([1])["action"][0, 1:])
    assert main(["import", str(tmp_path / "whole-v0"), str(tmp_path / "b")]) == 0
    changed = StoredHistories(tmp_path / "b")
    assert changed.is_foreign and "which it says it was" in changed.card["foreign"]["assumed"][-1]


def test_foreign_histories_come_back_with_their_digest(tmp_path):
    chance = np.full((N, R, T), 0.25)
    store_histories(tmp_path / "a", {**arrays(), "propensities": chance}, SPEC)
    assert main(["export", str(tmp_path / "a"), str(tmp_path / "x-v0")]) == 0
    assert imported(tmp_path / "x-v0", tmp_path).digest == StoredHistories(tmp_path / "a").digest


def minari_set(folder, observation=None, action=None, episodes=((7, True), (5, False), (9, True)) * 4):
    """A dataset as others make them: episodes in order, of different lengths, some without a flag at their end."""
    observation = observation or spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action = action or spaces.Discrete(2, start=1)
    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new((folder / "data").absolute(), observation, action)
    storage.update_metadata({"dataset_id": folder.name, "algorithm_name": "random", "minari_version": "0.5.4"})
    for space in (observation, action):
        space.seed(0)

    def buffer(steps, flagged):
        last = np.arange(steps) == steps - 1
        seen, acted = ([space.sample() for _ in range(n)] for space, n in ((observation, steps + 1), (action, steps)))
        return EpisodeBuffer(
            observations=np.array(seen), actions=np.array(acted), rewards=np.arange(steps) * 1.0,
            terminations=last & flagged, truncations=np.zeros(steps, bool), infos={},
        )  # fmt: skip

    storage.update_episodes(buffer(*each) for each in episodes)
    return folder


def test_episodes_of_others_are_one_stream_cut_into_histories(tmp_path, monkeypatch):
    folder = minari_set(tmp_path / "others-v0")
    stored = imported(folder, tmp_path)
    assert (stored.num_tasks, stored.num_histories, stored.num_steps) == (1, 4, 21)  # each of two of the longest
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = list(minari.load_dataset("others-v0").iterate_episodes())
    record = {name: field.reshape(84, *field.shape[3:]) for name, field in stored.fetch([0]).items()}
    np.testing.assert_array_equal(record["obs"], np.concatenate([e.observations[:-1] for e in episodes]))
    np.testing.assert_array_equal(record["next_obs"], np.concatenate([e.observations[1:] for e in episodes]))
    np.testing.assert_array_equal(record["action"], np.concatenate([e.actions for e in episodes]) - 1)
    ends = np.cumsum([len(e) for e in episodes]) - 1
    np.testing.assert_array_equal(np.flatnonzero(record["terminated"] | record["truncated"]), ends)
    np.testing.assert_array_equal(np.flatnonzero(record["truncated"]), ends[1::3])
    said = " ".join(stored.card["foreign"]["assumed"])
    assert "one stream" in said and "cut off" in said and stored.card["source"] == "random"
    assert stored.environment().spec.ends_early and stored.card["episode_steps"] == 9


def test_observations_of_minari_may_be_integers(tmp_path):
    stored = imported(minari_set(tmp_path / "a-v0", spaces.Discrete(5, start=2)), tmp_path, "--history-steps=28")
    assert stored.environment().spec.obs_nvec == (5,) and stored.fetch([0])["obs"].min() == 0
    assert stored.num_histories == 3
    again = minari_set(tmp_path / "b-v0", spaces.MultiDiscrete([3, 4]))
    assert main(["import", str(again), str(tmp_path / "b")]) == 0
    assert StoredHistories(tmp_path / "b").environment().spec.obs_nvec == (3, 4)


def test_a_dataset_that_cannot_be_predicted_is_refused(tmp_path, capsys):
    box = spaces.Box(-1, 1, (2,), np.float32)
    said = refusal(capsys, minari_set(tmp_path / "a-v0", action=box), tmp_path)
    assert "a-v0: action_space: got 'Box', allowed: Discrete; continuous and composed actions" in said
    nested = minari_set(tmp_path / "b-v0")
    path = nested / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["observation_space"] = json.dumps({"type": "Dict", "subspaces": {}})
    path.write_text(json.dumps(metadata))
    assert "b-v0: observation_space: got 'Dict', allowed: Discrete, Multi" in refusal(capsys, nested, tmp_path)
    del metadata["observation_space"]
    path.write_text(json.dumps({**metadata, "env_spec": json.dumps({"id": "os:evil-v0"})}))
    assert "environments are not made from data" in refusal(capsys, nested, tmp_path)


def test_every_layout_is_listed(capsys):
    assert main(["list", "importers"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in importers) and len(importers) == 9


@pytest.mark.parametrize(
    ("layout", "arrays_of", "said"),
    [
        ("t2mir", {"rewards": np.zeros((2, T - 1))}, "task 0: rewards: shape"),
        ("t2mir", {"masks": None}, "masks: missing"),
        ("dpt", {}, "context_states: missing"),
        ("npz", {}, "observations: missing"),
    ],
)
def test_archives_of_another_layout_are_refused(tmp_path, capsys, layout, arrays_of, said):
    flags = {name: np.zeros((2, T)) for name in ("rewards", "dones", "masks")}
    states = {name: np.zeros((2, T, 2)) for name in ("states", "next_states")}
    given = {**states, "actions": np.zeros((2, T), int), **flags, **arrays_of}
    np.savez(tmp_path / "a.npz", **{name: array for name, array in given.items() if array is not None})
    assert said in refusal(capsys, tmp_path / "a.npz", tmp_path, "--format", layout)


@pytest.mark.parametrize(
    ("space", "told", "said"),
    [
        ("action_space", {"type": "Discrete"}, "action_space: got {'type': 'Discrete'}, allowed: the space as Minari"),
        ("observation_space", {"type": "Box"}, "observation_space: got {'type': 'Box'}, allowed: the space as Minari"),
        ("observation_space", [1], "observation_space: got"),
    ],
)
def test_a_malformed_space_is_named(tmp_path, capsys, space, told, said):
    folder = minari_set(tmp_path / "a-v0")
    path = folder / "data" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), space: json.dumps(told)}))
    assert said in refusal(capsys, folder, tmp_path)


def test_damaged_episodes_of_minari_are_named(tmp_path, capsys):
    folder = minari_set(tmp_path / "a-v0")
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_4/rewards"][2] = np.nan
    assert "a-v0: task 0: rewards of history 1, step 9: got nan" in refusal(capsys, folder, tmp_path)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        del file["episode_3/actions"]
    assert "a-v0: episode 3: actions: missing" in refusal(capsys, folder, tmp_path)
    with h5py.File(folder / "data" / "main_data.hdf5", "w"):
        pass
    assert "a-v0: episodes: got 'none', allowed: one or more" in refusal(capsys, folder, tmp_path)


def test_groups_that_are_links_or_data_are_refused(tmp_path, capsys):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["task"] = np.zeros(3)
    assert "a.h5: task: got a dataset, allowed: a group" in refusal(capsys, tmp_path / "a.h5", tmp_path)
    assert "attribute 'env-id': missing" in refusal(capsys, tmp_path / "a.h5", tmp_path, "--format", "xland")


def test_a_missing_package_is_named_with_its_extra(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "needs h5py" in refusal(capsys, tmp_path / "a.h5", tmp_path)


def test_a_set_is_not_imported_over_another_and_goes_on_where_it_was_interrupted(tmp_path, capsys, monkeypatch):
    given = real()
    np.savez(tmp_path / "a.npz", **given)
    monkeypatch.setattr("icrl.datasets.foreign.SHARD_BYTES", 1)  # a task a shard
    stored = imported(tmp_path / "a.npz", tmp_path)
    digest = stored.digest
    assert main(["import", str(tmp_path / "a.npz"), str(tmp_path / "set")]) == 2
    assert "allowed: a new folder; this one holds a set already" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "set" / "tasks-0000000003-0000000004")
    shutil.rmtree(tmp_path / "set" / "tasks-0000000004-0000000005")
    assert imported(tmp_path / "a.npz", tmp_path).digest == digest


@pytest.mark.nightly
def test_a_tenth_of_a_million_transitions_take_a_tenth_of_a_minute_and_of_memory_less_than_a_gibibyte(tmp_path):
    folder = minari_set(tmp_path / "many-v0", episodes=((200, True),) * 500)
    code = (
        "import resource, sys, time\nfrom icrl.cli import main\nbegan = time.process_time()\n"
        "assert main(['import', *sys.argv[1:]]) == 0\nused = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(time.process_time() - began, used.ru_maxrss)"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "set")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    seconds, kilobytes = map(float, done.stdout.splitlines()[-1].split())
    print(f"100 000 transitions: {seconds:.1f} s of CPU, {kilobytes / 1024:.0f} MiB")
    assert seconds <= 6 and kilobytes <= 2**20
