"""``icrl import``: each layout becomes the histories that it holds, or is refused by file, place, field."""

import shutil
import sys

import h5py
import numpy as np
import pytest
from imports import imported, real, refusal, same
from recordings import K, N, R, T, arrays

from icrl.cli import main
from icrl.core.registry import importers
from icrl.datasets.contexts import StoredContexts
from icrl.datasets.histories import StoredHistories

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


# --- whatever the layout ---


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
