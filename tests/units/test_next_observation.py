"""The next-observation objective: which symbols are predicted from what, and that nothing to come is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.settings import replaced
from icrl.experiments.tdb import TDB

RECIPE = replaced(TDB.presets["smoke"], {"vary": (), "num_targets": 3})
OBJECTIVE, STEPS = RECIPE.objective, RECIPE.walk_steps


@pytest.fixture(scope="module")
def walks():
    return RECIPE.walks(0, "test").fetch(np.arange(4)).history


@pytest.fixture(scope="module")
def logits():
    policy = RECIPE.new_policy(0, 0)
    return jax.jit(lambda batch: jax.vmap(policy)(OBJECTIVE.inputs(batch))[0])


def test_targets_are_the_symbols_that_come(walks):
    targets = np.asarray(OBJECTIVE.targets(walks))
    symbols = np.concatenate([walks.obs, walks.next_obs[:, -1:]], axis=1)[..., 0]
    assert targets.shape == (4, STEPS, 3)
    for n, ahead in np.ndindex(STEPS, 3):
        np.testing.assert_array_equal(targets[:, n, ahead], symbols[:, n + 1 + ahead])


def test_scores_are_cross_entropy_and_hits_compare_the_likeliest(walks):
    rng, targets = np.random.default_rng(0), np.asarray(OBJECTIVE.targets(walks))
    raw = rng.normal(size=(4, STEPS, 3, 4))
    scores = np.asarray(OBJECTIVE.scores(jnp.asarray(raw.reshape(4, STEPS, 12), jnp.float32), walks))
    log_p = raw - np.log(np.exp(raw).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, targets[..., None], -1)[..., 0].mean(-1)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    hits = np.asarray(OBJECTIVE.hits(jnp.asarray(raw.reshape(4, STEPS, 12), jnp.float32), walks))
    np.testing.assert_array_equal(hits, raw[:, :, 0].argmax(-1) == targets[..., 0])


def test_a_prediction_sees_the_past_and_its_own_actions_alone(walks, logits):
    """Change a symbol or an action of the walk: only what may know of it changes."""
    before = np.asarray(logits(walks)).reshape(4, STEPS, 3, 4)
    at = 6
    other = walks.obs.at[:, at].set((walks.obs[:, at] + 1) % 4)
    seen = np.asarray(logits(walks._replace(obs=other))).reshape(before.shape)
    np.testing.assert_array_equal(seen[:, :at], before[:, :at])
    assert np.abs(seen[:, at] - before[:, at]).max() > 0
    other = walks.action.at[:, at].set((walks.action[:, at] + 1) % 4)
    done = np.asarray(logits(walks._replace(action=other))).reshape(before.shape)
    for n, ahead in np.ndindex(at + 1, 3):  # target ahead of step n knows the actions n .. n + ahead
        changed = np.abs(done[:, n, ahead] - before[:, n, ahead]).max() > 0
        assert changed == (n + ahead >= at), (n, ahead)


def test_rewards_and_symbols_to_come_are_not_read(walks):
    inputs = OBJECTIVE.inputs(walks)
    np.testing.assert_array_equal(OBJECTIVE.inputs(walks._replace(reward=walks.reward + 5)), inputs)
    assert inputs.shape == (4, STEPS, RECIPE.layout.token_dim + 3 * 4)


def test_the_report_tells_accuracy_and_what_the_bottleneck_does(walks):
    said = OBJECTIVE.report(RECIPE.new_policy(0, 0), walks)
    assert set(said) == {"val_loss", "accuracy", "code_used", "code_distance"}
    assert 1 <= float(said["code_used"]) <= RECIPE.bottleneck.num_codes
    assert OBJECTIVE.num_outputs == 12
