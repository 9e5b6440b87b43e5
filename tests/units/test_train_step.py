"""One step of pretraining: it is AdamW on the mean loss, however the batch is cut and on however many threads."""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import optax
import pytest

from icrl.core.errors import InputError
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.models.layers.moe import MoEConfig
from icrl.recipes.data import RunData
from icrl.training import gradients as module
from icrl.training.step import FitSettings, initial_state, train_step, updated

SETTINGS = DPTBandit.presets["smoke"]
OBJECTIVE = SETTINGS.objective()
KEY = jax.random.key(1)


@functools.cache
def start():
    return SETTINGS.new_policy(0, 0), RunData(None, 0).batches(SETTINGS, 0)(0)


def stepped(num_steps: int = 1, **changes):
    """The state after steps on the one batch, from the start."""
    fit = dataclasses.replace(SETTINGS.fit, **changes)
    policy, batch = start()
    state = initial_state(fit, policy)
    for _ in range(num_steps):
        state = train_step(fit, OBJECTIVE, policy.structure, state, batch, KEY)
    return jax.device_get(state)


@functools.cache
def plain():
    """Losses of two steps of the optimiser on the whole batch's mean loss, and what it remembers of the gradients."""
    policy, batch = start()
    optimizer, params = SETTINGS.fit.optimizer(), policy.params
    memory, losses = optimizer.init(params), []
    slope = jax.jit(jax.value_and_grad(lambda params: OBJECTIVE.loss(policy.replace(params=params), batch, KEY)))
    for _ in range(2):
        loss, gradient = slope(params)
        updates, memory = optimizer.update(gradient, memory, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(loss))
    return jax.device_get(memory), losses


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"gradient_groups": 3}, "batch_size: got 16, allowed: a multiple of 3 gradient groups, as 15"),
        ({"gradient_groups": 8, "micro_batch": 4}, "micro_batch: got 4, allowed: a divisor of 2, one group"),
    ],
)
def test_groups_that_do_not_fit_are_refused(changes, named):
    with pytest.raises(InputError, match=named):
        stepped(**changes)


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 8, 16])
def test_it_is_the_optimiser_on_the_mean_loss_of_the_batch(micro_batch):
    state, (memory, losses) = stepped(2, micro_batch=micro_batch), plain()
    assert state.step == 2
    np.testing.assert_allclose(state.recent[:2], losses, rtol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-7), state.opt_state, memory)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    two = stepped(3, micro_batch=2)
    with ThreadPoolExecutor(1) as one_thread:
        monkeypatch.setattr(module, "_cores", lambda: one_thread)
        one = stepped(3, micro_batch=2)
    assert [x.tobytes() for x in jax.tree.leaves(one)] == [x.tobytes() for x in jax.tree.leaves(two)]


@dataclasses.dataclass(frozen=True)
class Draw:
    """An objective that is only what it draws."""

    tells_layers = False

    def lesson(self, policy, batch, key):
        return jax.random.uniform(key) + 0.0 * sum(leaf.sum() for leaf in jax.tree.leaves(policy.params)), ()


def test_every_step_has_draws_of_its_own_and_the_same_ones_again():
    fit = dataclasses.replace(SETTINGS.fit, micro_batch=16)
    policy, batch = start()

    def losses():
        state = initial_state(fit, policy)
        for _ in range(4):
            state = train_step(fit, Draw(), policy.structure, state, batch, KEY)
        return np.asarray(state.recent[:4]).tolist()

    assert len(set(losses())) == 4
    assert losses() == losses()


def test_the_second_step_compiles_nothing():
    stepped()
    known = module._sums_of_group._cache_size(), updated._cache_size()
    stepped(3)
    assert (module._sums_of_group._cache_size(), updated._cache_size()) == known


@pytest.mark.parametrize(("batch_size", "micro_batch", "pieces"), [(64, 4, 16), (15, 3, 5), (7, 1, 7), (2, 2, 1)])
def test_a_cpu_takes_the_largest_micro_batch_up_to_four_that_divides(batch_size, micro_batch, pieces):
    resolved = FitSettings(batch_size=batch_size).resolved(start()[0])
    assert (resolved.micro_batch, resolved.pieces) == (micro_batch, pieces)
    assert resolved.resolved(start()[0]) is resolved


def test_rows_that_must_meet_stay_together():
    backbone = dataclasses.replace(SETTINGS.backbone, mixture=MoEConfig(moe="token-task"))
    policy = dataclasses.replace(SETTINGS, backbone=backbone).new_policy(0, 0)
    assert FitSettings(batch_size=64).resolved(policy).micro_batch == 64
