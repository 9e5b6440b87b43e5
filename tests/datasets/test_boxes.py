"""Data whose actions are vectors: made, stored, cut, shuffled and exported as what they are."""

import minari
import numpy as np
import pytest

from icrl.core.registry import agents
from icrl.core.settings import flat
from icrl.core.types import History
from icrl.datasets.contexts import StoredContexts, shuffle_time, store_contexts
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_collected
from icrl.datasets.minari_export import export_minari
from icrl.datasets.pooled import PooledHistories
from icrl.datasets.room_contexts import IndependentContexts
from icrl.datasets.windows import Windows
from icrl.envs.point_robot import PointRobot

ENV = PointRobot(horizon=6)
STEPS, EACH, TASKS = 20, 2, 3


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Histories of a source whose noise fades, and what was generated."""
    source = agents["annealed-oracle"].for_env(ENV, anneal_steps=STEPS)
    made = HistoryGenerator(ENV, (Part(source, EACH),), STEPS, np.arange(TASKS), 0, "pretrain/task")
    folder = tmp_path_factory.mktemp("histories") / "data"
    store_collected(folder, made, {"env": {"id": ENV.name, **flat(ENV)}, "source": "annealed-oracle", "seed": 0})
    return StoredHistories(folder), made.fetch(np.arange(TASKS))


def test_histories_and_windows_hold_the_vectors(stored):
    histories, made = stored
    assert (histories.num_histories, histories.num_steps) == (EACH, STEPS)
    found = histories.fetch(np.arange(TASKS))
    for name in History._fields:
        np.testing.assert_array_equal(found[name], made[name])
    assert found["action"].shape == (TASKS, EACH, STEPS, 2) and np.abs(found["action"]).max() <= 1
    pooled = PooledHistories(((histories, EACH),))
    rows = np.arange(TASKS * EACH)
    for source in (pooled, pooled.on_device()):
        windows = Windows(source, rows, window=8, stride=1, batch_size=4, seed=(0, 0, 0))(0)
        assert windows.action.shape == (4, 8, 2) and windows.action.dtype == np.float32
        flat_rows = made["action"].reshape(-1, STEPS, 2)
        for window in np.asarray(windows.action):
            assert any((flat_rows[:, at : at + 8] == window).all((1, 2)).any() for at in range(STEPS - 7))


def test_contexts_are_stored_and_shuffled_with_their_labels(tmp_path):
    made = IndependentContexts(ENV, None, 5, seed=0, num_queries=6)
    contexts = made.fetch(np.arange(4))
    assert contexts.history.action.shape == (4, 5, 2) and contexts.label.shape == (4, 6, 2)
    store_contexts(tmp_path / "data", made, 4, {})
    found = StoredContexts(tmp_path / "data").fetch(np.arange(4))
    for a, b in zip((*found.history, found.query, found.label), (*contexts.history, *contexts[1:]), strict=True):
        np.testing.assert_array_equal(a, b)
    import jax

    shuffled = shuffle_time(jax.random.key(0), contexts.history)
    for row in range(4):
        before, after = (
            np.concatenate([np.asarray(h.obs[row]), np.asarray(h.action[row])], 1) for h in (contexts.history, shuffled)
        )
        assert {tuple(step) for step in before} == {tuple(step) for step in after}


def test_minari_reads_back_the_vectors_in_their_box(stored, tmp_path, monkeypatch):
    histories, made = stored
    assert export_minari(histories, tmp_path / "robot-v0") == TASKS * EACH * 4
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("robot-v0")
    assert dataset.action_space.shape == (2,) and float(dataset.action_space.high[0]) == 1.0
    actions = np.concatenate([episode.actions for episode in dataset.iterate_episodes()])
    np.testing.assert_array_equal(actions, made["action"].reshape(-1, 2))
