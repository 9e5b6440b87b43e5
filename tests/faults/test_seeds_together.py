"""Training seeds side by side in one program: each keeps rows, checkpoints and listeners of its own, killed anywhere.

Three small models with data of their own; the data are made once, so that little is compiled.
"""

import dataclasses
import os
import shutil
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import DamagedError, InputError
from icrl.core.registry import experiments
from icrl.core.settings import replaced
from icrl.datasets.contexts import ContextGenerator
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.recipes.data import RunData, contexts_of
from icrl.recipes.fits import check_fit
from icrl.recipes.gathering import run_part
from icrl.recipes.preflight import check_memory
from icrl.storage import checkpoints
from icrl.storage.metrics_log import OF_MACHINE, read_jsonl
from icrl.storage.publish import verify_folder
from icrl.storage.run_folder import open_run_folder
from icrl.training import fit as module_of_fit
from icrl.training import gradients as module
from icrl.training import loop, seeds
from icrl.training import rows as module_of_rows
from icrl.training.fit import Fit
from icrl.training.learner import Trainee
from icrl.training.loop import Diverged, restore, saves_of, train_together
from icrl.training.step import initial_state, train_step, updated
from icrl.training.stopping import Interrupted

SEEDS, STEPS = 3, 10
CHANGES = {"horizon": 8, "width": 8, "num_layers": 1, "batch_size": 4, "train_steps": STEPS, "warmup_steps": 2}
RECIPE = replaced(DPTBandit.presets["smoke"], {**CHANGES, "save_every": 3, "log_every": 2})
CONTEXTS = jax.device_get(contexts_of(RECIPE, 0, "pretrain/0").fetch(np.arange(SEEDS * STEPS * 4)))


class Killed(Exception):
    """In place of a death: nothing is written behind it."""


@dataclasses.dataclass
class Heard:
    """A listener that remembers."""

    rows: list[dict]

    def begins(self, rows):
        self.rows[:] = rows

    def logged(self, row):
        self.rows.append(row)


def batch(seed, step):
    first = 4 * (seed * STEPS + step)
    return jax.tree.map(lambda field: field[first : first + 4], CONTEXTS)


def learner(seed, batches=batch):
    held_out = batch(0, 0)
    return Fit(
        RECIPE.fit,
        RECIPE.new_policy(0, seed),
        RECIPE.objective(),
        partial(batches, seed),
        jax.random.key(seed),
        held_out,
    )


def train(folder, batches=batch, heard=None):
    heard = heard or [[] for _ in range(SEEDS)]
    trainees = [Trainee(learner(seed, batches), seed, [Heard(rows)]) for seed, rows in enumerate(heard)]
    return train_together(trainees, folder)


def outcome(folder):
    """Rows without what tells time, and the states of all checkpoints."""
    rows = [
        {k: v for k, v in row.items() if k not in (*OF_MACHINE, "crc")} for row in read_jsonl(folder / "metrics.jsonl")
    ]
    places = sorted(folder.glob("checkpoints/seed-*/step-*"))
    return rows, {f"{place.parent.name}/{place.name}": verify_folder(place)["state_sha256"] for place in places}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder in which three seeds were trained together, what they have learned, and what their listeners heard."""
    folder = open_run_folder(tmp_path_factory.mktemp("together") / "run", {"seed": 0}, False)
    heard = [[] for _ in range(SEEDS)]
    return folder, train(folder, heard=heard), heard


def test_each_seed_has_rows_checkpoints_and_listeners_of_its_own(undisturbed):
    folder, policies, heard = undisturbed
    rows = read_jsonl(folder / "metrics.jsonl")
    for seed, policy in enumerate(policies):
        own = [row for row in rows if row["seed"] == seed]
        assert [row["step"] for row in own] == [2, 4, 6, 8, 10]
        assert [{k: v for k, v in row.items() if k != "crc"} for row in own] == heard[seed]
        assert {"loss", "val_loss", "gradient_norm"} <= own[0].keys()
        assert checkpoints.steps(saves_of(folder, seed)) == [6, 9, 10]
        jax.tree.map(np.testing.assert_array_equal, restore(learner(seed), folder, seed).params, policy.params)
    assert len({row["loss"] for row in rows}) == len(rows)


def test_rows_that_wait_for_the_next_ones_are_the_same(undisturbed, tmp_path, monkeypatch):
    """As on an accelerator, where they are fetched when the device has them."""
    folder, heard = copied(undisturbed, tmp_path), [[] for _ in range(SEEDS)]
    for place in (module_of_rows, module_of_fit):
        monkeypatch.setattr(place, "lag", lambda: 1)
    monkeypatch.setattr(module_of_rows._Asked, "is_there", property(lambda self: False))
    train(folder, heard=heard)
    assert outcome(folder) == outcome(undisturbed[0])
    assert [[row["loss"] for row in own] for own in heard] == [[row["loss"] for row in own] for own in undisturbed[2]]


def test_together_they_learn_what_each_learns_alone(undisturbed, tmp_path):
    """Up to the order of float32 sums; parameters whose true gradient is zero, as keys' biases, are rounding alone."""
    rows = read_jsonl(undisturbed[0] / "metrics.jsonl")
    for seed in range(SEEDS):
        loop.train(learner(seed), tmp_path, seed)
    for alone in read_jsonl(tmp_path / "metrics.jsonl"):
        (together,) = (row for row in rows if (row["seed"], row["step"]) == (alone["seed"], alone["step"]))
        for name in ("loss", "val_loss", "gradient_norm"):
            assert together[name] == pytest.approx(alone[name], rel=1e-4)


@pytest.mark.parametrize(
    "changes", [{}, {"model": "gru"}, pytest.param({"moe": "token-task"}, marks=pytest.mark.nightly)]
)
def test_a_step_together_is_the_step_of_each(changes):
    """Losses and Adam's moments agree up to the order of float32 sums, 24 bits of mantissa each.

    Parameters need not: where a true gradient is zero, as of keys' biases, Adam divides rounding by rounding.
    """
    recipe = replaced(RECIPE, {"width": 8, "num_layers": 1, **changes})
    fit, objective, policies = recipe.fit, recipe.objective(), [recipe.new_policy(0, seed) for seed in range(SEEDS)]
    keys, structure = [jax.random.key(seed) for seed in range(SEEDS)], policies[0].structure
    states = [initial_state(fit, policy) for policy in policies]
    together = seeds.stacked([initial_state(fit, policy) for policy in policies])
    for step in range(3):
        data = [batch(seed, step) for seed in range(SEEDS)]
        together = train_step(fit, objective, structure, together, seeds.stacked(data), seeds.stacked(keys))
        for seed, (own, key) in enumerate(zip(data, keys, strict=True)):
            states[seed] = train_step(fit, objective, structure, states[seed], own, key)
    for one, alone in zip(seeds.unstacked(together, SEEDS), states, strict=True):
        assert one.step == 3
        np.testing.assert_allclose(one.recent, alone.recent, rtol=1e-5)
        close = partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-7)
        jax.tree.map(close, one.opt_state, alone.opt_state)


def test_later_steps_rows_and_saves_compile_nothing(undisturbed, tmp_path):
    counted = (module._sums_of_group, updated, seeds._stack, seeds._member)
    known = [each._cache_size() for each in counted]
    train(tmp_path)
    assert [each._cache_size() for each in counted] == known


@pytest.mark.parametrize(
    ("changes", "at_once"), [({}, True), ({"objective": "ad"}, True), ({"source": "uniform,ucb"}, False)]
)
def test_contexts_of_all_seeds_are_made_in_one_call_and_are_those_of_each(monkeypatch, changes, at_once):
    recipe = replaced(RECIPE, changes)
    of_each = [RunData(None, 0).batches(recipe, seed) for seed in range(2)]
    alone = [each(3) for each in of_each]
    fetched = []
    fetch = ContextGenerator.fetch
    monkeypatch.setattr(ContextGenerator, "fetch", lambda self, ids: fetched.append(1) or fetch(self, ids))
    together = seeds.batches_of(of_each)(3)
    for seed in range(2):
        own = jax.tree.map(lambda field, seed=seed: field[seed], together)
        jax.tree.map(np.testing.assert_array_equal, own, alone[seed])
    assert bool(fetched) != at_once


# --- Killed anywhere ---


def dies_in_save(monkeypatch, number):
    """The save of that number, from 1, is the first that is not made."""
    made, save = [0], checkpoints.save

    def dying(*args, **kwargs):
        made[0] += 1
        if made[0] >= number:
            raise Killed
        return save(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "save", dying)


def copied(undisturbed, tmp_path):
    """The folder of the undisturbed run with nothing trained in it."""
    shutil.copytree(undisturbed[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("number", "left"),
    [
        (2, [[3], [], []]),  # between the first saves: none is common to all
        (5, [[3, 6], [3], [3]]),
        (11, [[6, 9, 10], [3, 6, 9], [3, 6, 9]]),  # between the last
    ],
)
def test_a_kill_between_the_saves_of_two_seeds_costs_no_bit(undisturbed, tmp_path, monkeypatch, number, left):
    folder = copied(undisturbed, tmp_path)
    with monkeypatch.context() as patch:
        dies_in_save(patch, number)
        with pytest.raises(Killed):
            train(folder)
    assert [checkpoints.steps(saves_of(folder, seed)) for seed in range(SEEDS)] == left
    with monkeypatch.context() as patch, pytest.raises(Killed):  # and again, while it removes what is ahead
        patch.setattr(checkpoints, "discard_folder", lambda folder: (_ for _ in ()).throw(Killed))
        train(folder)
    policies = train(folder)
    jax.tree.map(np.testing.assert_array_equal, policies, undisturbed[1])
    assert outcome(folder) == outcome(undisturbed[0])


def test_a_kill_between_saves_and_a_damaged_step_leave_one_that_all_have(undisturbed, tmp_path, monkeypatch):
    folder = copied(undisturbed, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        dies_in_save(patch, 9)
        train(folder)
    (saves_of(folder, 1) / "step-00000006" / "manifest.json").write_bytes(b"{}")
    train(folder)
    assert outcome(folder) == outcome(undisturbed[0])


def test_checkpoints_of_another_run_are_not_removed(undisturbed, tmp_path):
    """Of one seed alone, so that there is no step that all have."""
    other = open_run_folder(tmp_path / "other", {"seed": 7}, False)
    shutil.copytree(saves_of(undisturbed[0], 1), saves_of(other, 1))
    with pytest.raises(DamagedError, match="step-00000006: is a checkpoint of another run"):
        train(other)
    assert checkpoints.steps(saves_of(other, 1)) == [6, 9, 10]


def test_a_signal_saves_all(undisturbed, tmp_path):
    folder = copied(undisturbed, tmp_path)

    def signalled(seed, step):
        if (seed, step) == (1, 4):
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(seed, step)

    with pytest.raises(Interrupted, match=f"stopped by SIGTERM after step 5 of {STEPS}; saved"):
        train(folder, signalled)
    assert [checkpoints.steps(saves_of(folder, seed)) for seed in range(SEEDS)] == [[3, 5]] * SEEDS
    jax.tree.map(np.testing.assert_array_equal, train(folder), undisturbed[1])


def test_a_seed_that_diverges_is_named_and_none_is_saved(undisturbed, tmp_path):
    folder = copied(undisturbed, tmp_path)

    def poisoned(seed, step):
        clean = batch(seed, step)
        rewards = jnp.full_like(clean.history.reward, jnp.nan) if (seed, step) == (2, 5) else clean.history.reward
        return clean._replace(history=clean.history._replace(reward=rewards))

    with pytest.raises(Diverged, match="loss of seed 2: got nan at step 6"):
        train(folder, poisoned)
    assert [checkpoints.steps(saves_of(folder, seed)) for seed in range(SEEDS)] == [[3]] * SEEDS
    jax.tree.map(np.testing.assert_array_equal, train(folder), undisturbed[1])


# --- What is refused ---


def refused(action, match):
    with pytest.raises(InputError, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dpt-bandit", "tdb", "task-diversity"])
def test_more_seeds_together_than_there_are_are_refused(name):
    changes = {"train_seeds": 2, "seeds_together": 3}
    refused(lambda: replaced(experiments[name].presets["smoke"], changes), "seeds_together: got 3, allowed: at most 2")


def test_what_cannot_go_together_is_refused(tmp_path):
    changes = {"train_seeds": 2, "seeds_together": 2}
    recipe = replaced(experiments["rl2"].presets["smoke"], changes)
    refused(lambda: check_fit(recipe), "seeds_together: got 2, allowed: 1 with objective rl2")
    refused(
        lambda: type(recipe.learner(0, 0)).side_by_side([None, None]), "seeds_together: got 2, allowed: 1 with a Reinf"
    )
    part = partial(run_part, "dpt-bandit", "smoke", 0, changes, tmp_path / "run", "1/2")
    refused(part, "seeds_together: got 2, allowed: 1 with --part")
    other = dataclasses.replace(learner(1), settings=dataclasses.replace(RECIPE.fit, learning_rate=0.5))
    refused(
        lambda: train_together([Trainee(learner(0), 0), Trainee(other, 1)], tmp_path), "training seeds of one model"
    )


def test_memory_is_that_of_all(monkeypatch):
    needed = []
    monkeypatch.setattr("icrl.recipes.preflight.require_memory", lambda training, _: needed.append(training.nbytes))
    for together in (1, 4):
        check_memory(replaced(RECIPE, {"train_seeds": 4, "seeds_together": together}))
    assert needed[1] == 4 * needed[0]
