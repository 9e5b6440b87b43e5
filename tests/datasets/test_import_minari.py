"""``icrl import`` of Minari datasets, our own and those of others."""

import json
import subprocess
import sys

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from imports import imported, refusal
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from recordings import SPEC, N, R, T, arrays

from icrl.cli import main
from icrl.core.registry import agents
from icrl.core.settings import flat
from icrl.datasets import store_histories
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_collected
from icrl.envs.dark_room import DarkRoomHard

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
