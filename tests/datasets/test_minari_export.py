"""A Minari dataset holds exactly the histories it was made of, and what is needed to put them together again."""

import itertools
import re
import subprocess
import sys

import minari
import numpy as np
import pytest

from icrl.cli import main
from icrl.core.registry import agents
from icrl.core.settings import flat
from icrl.core.types import History
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_collected
from icrl.datasets.store import store_records
from icrl.envs.dark_room import DarkRoomHard

ENV = DarkRoomHard(size=4, horizon=6)
IDS = np.array([3, 0, 9, 5, 14])
STEPS, EACH = 32, 3  # five episodes and two steps of a sixth
CARD = {"env": {"id": ENV.name, **flat(ENV)}, "source": "QLearning", "seed": 7}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("histories") / "data"
    part = Part(agents["q-learning"].for_env(ENV), EACH)
    store_collected(folder, HistoryGenerator(ENV, (part,), STEPS, IDS, 7), CARD)
    return folder


@pytest.fixture
def exported(data, tmp_path, monkeypatch):
    """Tasks at 1 .. 3, histories 1 and 2 of each, written from a relative path and read by Minari's own loader."""
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(data), "sets/room-v1", "--tasks", "1:4", "--histories", "1:3", "--author", "Ada"]) == 0
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    return minari.load_dataset("room-v1")


def rebuilt(dataset) -> dict[tuple[int, int], History]:
    """(task id, history) to the transitions of all its episodes, which must come in order."""
    lives: dict[tuple[int, int], list[History]] = {}
    for found in dataset.iterate_episodes():
        infos = {name: np.unique(values).tolist() for name, values in found.infos.items()}
        (task,), (history,), (episode,) = infos["task_id"], infos["history"], infos["episode"]
        life = lives.setdefault((task, history), [])
        assert episode == len(life)
        obs, flags = found.observations, (found.terminations, found.truncations)
        life.append(History(obs[:-1], found.actions, found.rewards, obs[1:], *flags))
    return {place: History(*map(np.concatenate, zip(*life, strict=True))) for place, life in lives.items()}


def test_minari_reads_back_the_stored_histories(data, exported):
    stored, found = StoredHistories(data), rebuilt(exported)
    assert list(found) == list(itertools.product((0, 9, 5), (1, 2)))
    for (task, history), life in found.items():
        record = stored.fetch(np.flatnonzero(task == IDS))
        for name, field in life._asdict().items():
            np.testing.assert_array_equal(field, record[name][0, history], strict=name != "action", err_msg=name)
    assert exported.total_steps == 6 * STEPS
    assert exported.total_episodes == 6 * 6


def test_an_episode_ends_with_its_flag_unless_the_history_was_cut_off(exported):
    for episode in exported.iterate_episodes():
        cut_off = episode.infos["episode"][0] == 5
        assert len(episode) == (2 if cut_off else 6)
        assert episode.truncations.tolist() == [False] * (len(episode) - 1) + [not cut_off]
        assert not episode.terminations.any()
        assert repr(episode)


def test_the_dataset_knows_its_environment_and_where_it_came_from(data, exported):
    env = exported.recover_environment()
    assert env.spec.id == "icrl/DarkRoomHard-v0"
    assert env.unwrapped.family == ENV
    assert exported.observation_space == env.observation_space
    assert exported.action_space == env.action_space
    for episode in exported.iterate_episodes():
        assert all(map(env.observation_space.contains, episode.observations))
        assert all(map(env.action_space.contains, episode.actions))
        assert episode.actions.dtype == env.action_space.dtype
    stored, metadata = StoredHistories(data), exported.storage.metadata
    assert metadata["icrl"] == {"digest": stored.digest, "card": stored.card, "whole": False}
    assert metadata["algorithm_name"] == "QLearning"
    assert metadata["author"] == {"Ada"}
    assert list(minari.list_local_datasets()) == ["room-v1"]


def test_what_is_told_of_an_episode_survives_minari(exported):
    chosen = exported.filter_episodes(lambda episode: episode.infos["task_id"][0] == 9)
    assert chosen.total_episodes == 2 * 6
    assert {int(episode.infos["history"][0]) for episode in chosen.iterate_episodes()} == {1, 2}
    twice = minari.combine_datasets([exported, exported], "twice-v0")
    assert [int(e.infos["episode"][0]) for e in twice.iterate_episodes()] == list(range(6)) * 12


def test_the_same_histories_make_the_same_bytes(data, exported, tmp_path):
    again = ["export", str(data), str(tmp_path / "other" / "room-v1"), "--tasks", "1:4", "--histories", "1:3"]
    assert main([*again, "--author", "Ada"]) == 0
    for name in ("data/main_data.hdf5", "data/metadata.json", "manifest.json"):
        pair = [(tmp_path / folder / "room-v1" / name).read_bytes() for folder in ("sets", "other")]
        assert pair[0] == pair[1], name


def refusal(capsys, *argv) -> str:
    """The one line with which bad input is refused."""
    capsys.readouterr()
    assert main(["export", *map(str, argv)]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--tasks", "3:6"), "tasks: got '3:6', allowed: FIRST:END with 0 <= FIRST < END <= 5"),
        (("--tasks", "2:2"), "tasks: got '2:2'"),
        (("--tasks", "2"), "tasks: got '2', allowed: FIRST:END, for instance 0:3"),
        (("--tasks", "a:b"), "tasks: got 'a:b'"),
        (("--histories", "0:4"), "histories: got '0:4', allowed: FIRST:END with 0 <= FIRST < END <= 3"),
    ],
)
def test_a_part_outside_the_set_is_refused(data, tmp_path, capsys, flags, said):
    assert said in refusal(capsys, data, tmp_path / "room-v0", *flags)
    assert not (tmp_path / "room-v0").exists()


def test_bad_folders_are_refused(data, tmp_path, capsys):
    assert "allowed: a folder called NAME-vNUMBER" in refusal(capsys, data, tmp_path / "room")
    (tmp_path / "room-v0").mkdir()
    assert "room-v0: already exists and is never overwritten" in refusal(capsys, data, tmp_path / "room-v0")
    assert "it has no card.json" in refusal(capsys, tmp_path, tmp_path / "room-v1")
    store_records(tmp_path / "other", lambda ids: {"x": ids}, 3, {})
    assert "allowed: learning histories" in refusal(capsys, tmp_path / "other", tmp_path / "room-v1")
    part = Part(agents["uniform"].for_env(ENV), 1)
    store_collected(tmp_path / "plain", HistoryGenerator(ENV, (part,), 6, IDS, 0), {})
    assert "not of a registered environment" in refusal(capsys, tmp_path / "plain", tmp_path / "room-v1")


def test_an_export_that_fails_leaves_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setattr("icrl.datasets.minari_export._fields", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["export", str(data), str(tmp_path / "room-v0")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["minari", "h5py"])
def test_a_missing_package_is_named_with_its_extra(data, tmp_path, package):
    code = f"import sys; sys.modules[{package!r}] = None\nfrom icrl.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "export", str(data), str(tmp_path / "room-v0")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"icrl: export: needs Minari .*; install the extra icrl\[minari\]\n", done.stderr)
