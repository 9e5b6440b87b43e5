"""Training with experts: pairs of one task side by side, the slow router in the train state, bits kept by a resume."""

import dataclasses

import jax
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.registry import agents, experiments, models
from icrl.core.settings import replaced
from icrl.core.types import History
from icrl.datasets.contexts import Batches, ContextGenerator
from icrl.datasets.windows import DeviceHistories, Windows
from icrl.evaluation.experts import routing
from icrl.experiments.ad_darkroom import ADDarkRoom
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.recipes.data import RunData
from icrl.reports.charts import to_pixels
from icrl.reports.figures import draw_figures
from icrl.storage import checkpoints
from icrl.storage.metrics_log import OF_MACHINE, read_jsonl
from icrl.training.fit import fit
from icrl.training.loop import saves_of

CHANGES = {
    "moe": "token-task",
    "token_experts": 3,
    "task_experts": 4,
    "train_steps": 12,
    "save_every": 5,
    "log_every": 4,
}
SETTINGS = replaced(DPTBandit.presets["smoke"], {**CHANGES, "horizon": 8, "batch_size": 8, "balance_weight": 0.1})


class Killed(Exception):
    pass


def contexts(purpose="pretrain", sequences_per_task=1):
    return ContextGenerator(SETTINGS.env, agents["uniform"].for_env(SETTINGS.env), 8, 0, purpose, sequences_per_task)


def train(folder, killed_at=None):
    batches, key = RunData(None, 0).batches(SETTINGS, 0), jax.random.key(3)
    held_out = ContextGenerator(SETTINGS.env, agents["dirichlet-mix"].for_env(SETTINGS.env), 8, 0, "validation").fetch(
        np.arange(4)
    )

    def until_killed(step):
        if step == killed_at:
            raise Killed
        return batches(step)

    return fit(
        SETTINGS.fit, SETTINGS.new_policy(0, 0), SETTINGS.objective(), until_killed, folder, key=key, held_out=held_out
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moe")
    return folder, train(folder)


def test_a_killed_run_ends_in_the_same_bits(undisturbed, tmp_path):
    folder, policy = undisturbed
    with pytest.raises(Killed):
        train(tmp_path, killed_at=8)
    assert checkpoints.steps(saves_of(tmp_path, 0)) == [5]
    resumed = train(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, resumed, policy)
    logged = (read_jsonl(each / "metrics.jsonl") for each in (folder, tmp_path))
    rows = [[{**row, **dict.fromkeys((*OF_MACHINE, "crc"), 0)} for row in each] for each in logged]
    assert rows[0] == rows[1]


def test_the_slow_router_has_followed_and_statistics_are_logged(undisturbed):
    folder, policy = undisturbed
    first = SETTINGS.new_policy(0, 0)
    task = policy.merge().backbone.blocks[0].feed_forward.branches[1]
    begun = first.merge().backbone.blocks[0].feed_forward.branches[1]
    moved, went = np.asarray(task.slow.U[...] - begun.slow.U[...]), np.asarray(task.router.U[...] - begun.router.U[...])
    assert 0 < np.abs(moved).max() < 0.06 * np.abs(went).max() + 1e-6  # at most 12 steps of 0.005
    last = list(read_jsonl(folder / "metrics.jsonl"))[-1]
    assert {"val_loss", "layer_0_token_share_2", "layer_0_task_share_3", "layer_0_task_evenness"} <= last.keys()


def test_which_expert_serves_whom_is_drawn(undisturbed):
    _, policy = undisturbed
    found = routing(SETTINGS.objective(), policy, contexts("validation").fetch(np.arange(4)))
    assert [branch["branch"] for branch in found] == ["layer_0_token", "layer_0_task"]
    groups = ["query", "transition", *(f"sequence {number}" for number in range(1, 5))]
    for branch, experts in zip(found, (3, 4), strict=True):
        assert branch["groups"] == groups and branch["share"].shape == (6, experts)
        np.testing.assert_allclose(branch["share"].sum(1), 1.0, rtol=1e-5)
        weighted = (branch["share"][0] + 8 * branch["share"][1]) / 9  # one query, eight transitions
        np.testing.assert_allclose(weighted, branch["share"][2:].mean(0), atol=1e-5)
    figure = draw_figures({"routing": found, "num_tasks": 4})["routing"]
    assert to_pixels(figure).std() > 10


def test_contexts_of_a_task_stand_side_by_side():
    one, two = contexts(sequences_per_task=1), contexts(sequences_per_task=2)
    pairs, singles = two.fetch(np.arange(6)), one.fetch(np.arange(3))
    np.testing.assert_array_equal(pairs.label[0::2], singles.label)
    np.testing.assert_array_equal(pairs.label[0::2], pairs.label[1::2])
    assert np.any(np.asarray(pairs.history.reward[0::2] != pairs.history.reward[1::2]), axis=1).all()
    ids = np.concatenate([Batches(two, 4, 0, num_tasks=6, sequences_per_task=2).ids(step) for step in range(3)])
    assert sorted(ids) == list(range(12)) and (ids[0::2] + 1 == ids[1::2]).all() and (ids[0::2] % 2 == 0).all()


def test_windows_of_a_task_stand_side_by_side():
    zero = np.zeros((20, 12), np.float32)
    task = np.repeat(np.arange(5), 4)
    windows = Windows(
        DeviceHistories(History(*[zero] * 6)), np.array([0, 1, 5, 6, 6, 9, 17, 19]), 4, 8, (0,), task=task
    )
    seen = np.concatenate([windows.places(step)[0] for step in range(200)])
    np.testing.assert_array_equal(task[seen[0::2]], task[seen[1::2]])
    by_batch = task[seen[0::2]].reshape(200, 4)
    assert all(len(set(batch)) == 4 for batch in by_batch)
    assert set(seen) == {0, 1, 5, 6, 9, 17, 19} and np.mean(seen == 6) == pytest.approx(
        1 / 6, abs=0.04
    )  # 2 of 3 in 1 of 4
    with pytest.raises(InputError, match="batch_size"):
        dataclasses.replace(windows, batch_size=7)


def test_odd_batches_are_refused():
    with pytest.raises(InputError, match="batch_size: got 15, allowed: whole multiples of 2 sequences"):
        replaced(ADDarkRoom.presets["smoke"], {"moe": "task", "batch_size": 15})
    assert replaced(ADDarkRoom.presets["smoke"], {"moe": "token", "batch_size": 15}).backbone.sequences_per_task == 1


def test_every_model_takes_experts_in_an_experiment():
    for model in models:
        settings = replaced(DPTBandit.presets["cpu"], {"model": model, "moe": "token-task", "task_routing": "soft"})
        assert settings.backbone.mixture.branches == ("token", "task")
    for each in experiments:
        with_model = [preset for preset in experiments[each].presets.values() if hasattr(preset, "backbone")]
        assert with_model or each == "neural-bandits"  # whose networks are the agents' own
        for preset in with_model:
            assert replaced(preset, {"moe": "token"}).backbone.mixture.branches == ("token",)
