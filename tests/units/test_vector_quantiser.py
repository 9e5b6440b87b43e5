"""The bottleneck: nearest codes, gradients as if nothing were quantised, codes that are averages of what chose them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.core.errors import InputError
from icrl.core.settings import replaced
from icrl.experiments.tdb import TDB
from icrl.models._token_policy import Policy
from icrl.models.layers.auxiliary import watch
from icrl.models.layers.vector_quantiser import CodebookConfig, VectorQuantiser, split_unused
from icrl.training.step import initial_state, train_step

CONFIG = CodebookConfig(num_codes=5, num_bottlenecks=2, code_dim=3, code_decay=0.9)
RECIPE = replaced(TDB.presets["smoke"], {"vary": ()})


def layer():
    return VectorQuantiser(CONFIG, nnx.Rngs(0))


def vectors(seed=1, steps=7):
    return jax.random.normal(jax.random.key(seed), (steps, 6))


def test_each_vector_becomes_the_nearest_of_its_own_codebook():
    quantiser, y = layer(), vectors()
    z, _, numbers = map(np.asarray, quantiser.quantise(y))
    book = np.asarray(quantiser.codebook)
    np.testing.assert_allclose((z**2).mean(-1), 1, rtol=1e-4)
    expected = ((z[:, :, None] - book[None]) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(numbers, expected)
    nearest = np.stack([book[m, expected[:, m]] for m in range(2)], axis=1)
    np.testing.assert_allclose(quantiser(y), nearest.reshape(7, 6), atol=1e-6)


def test_gradients_pass_as_if_nothing_were_quantised():
    quantiser, y = layer(), vectors()
    weights = vectors(2)
    through = jax.grad(lambda y: jnp.sum(quantiser(y) * weights))(y)
    around = jax.grad(lambda y: jnp.sum(quantiser.quantise(y)[0].reshape(7, 6) * weights))(y)
    np.testing.assert_allclose(through, around, rtol=1e-5)
    assert float(jnp.abs(through).max()) > 0.1


def test_the_commitment_loss_draws_vectors_to_their_codes_and_not_the_codes():
    y = vectors()

    def loss(y):
        quantiser = layer()
        watch([quantiser], None)
        quantiser(y)
        return quantiser.loss(jax.tree.map(lambda field: field[None], quantiser.record))

    z, codes, _ = layer().quantise(y)
    assert float(loss(y)) == pytest.approx(0.25 * float(jnp.mean((z - codes) ** 2)), rel=1e-5)
    assert float(loss(y - 0.01 * jax.grad(loss)(y))) < float(loss(y))


def test_codes_follow_what_chose_them():
    quantiser, y = layer(), vectors(steps=400)
    before, uses = np.asarray(quantiser.sums[...]), np.asarray(quantiser.uses[...])
    watch([quantiser], None)
    quantiser(y)
    seen = quantiser.seen(jax.tree.map(lambda field: field[None], quantiser.record))
    z, _, numbers = map(np.asarray, quantiser.quantise(y))
    quantiser.follow(seen)
    for m, code in np.ndindex(2, 5):
        mine = z[numbers[:, m] == code, m]
        assert len(mine) > 5  # so that no code is unused, and none is split
        expected = (0.9 * before[m, code] + 0.1 * mine.sum(0)) / (0.9 * uses[m, code] + 0.1 * len(mine))
        np.testing.assert_allclose(quantiser.codebook[m, code], expected, rtol=1e-4)


def test_an_unused_code_takes_half_of_the_coarsest_one():
    uses = jnp.array([10.0, 0.001, 8.0, 12.0])
    sums = uses[:, None] * jnp.array([[1.0, 0], [0, 1], [5, 5], [2, 2]])
    spread = jnp.array([0.1, 0.0, 4.0, 2.0])
    after = split_unused(uses, sums, spread)
    np.testing.assert_allclose(after[0], [10, 4, 4, 12], rtol=1e-6)
    codes = np.asarray(after[1] / after[0][:, None])
    np.testing.assert_allclose(codes[[0, 2, 3]], [[1, 0], [5, 5], [2, 2]], rtol=1e-6)
    assert 0 < np.abs(codes[1] - 5).max() < 2
    fine = split_unused(uses, sums, jnp.full(4, 1e-3))
    np.testing.assert_allclose(fine[0], uses, rtol=1e-6)  # nothing is coarse: nothing is split


def test_a_codebook_that_nobody_uses_stays_finite_for_ever():
    uses, sums, spread = jnp.ones(3), jnp.ones((3, 2)), jnp.zeros(3)
    for _ in range(30):
        uses, sums, spread = split_unused(uses * 1e-4, sums * 1e-4, spread * 1e-4)
    assert np.isfinite(sums / uses[:, None]).all()


@functools.cache
def start():
    return RECIPE.new_policy(0, 0), RECIPE.batches(0, 0)(0)


def trained(micro_batch):
    policy, batch = start()
    settings = dataclasses.replace(RECIPE.fit, micro_batch=micro_batch)
    state = initial_state(settings, policy)
    for _ in range(2):
        state = train_step(settings, RECIPE.objective, policy.structure, state, batch, jax.random.key(4))
    return jax.device_get(state)


def test_training_moves_the_codes_and_however_the_batch_is_cut_they_are_the_same():
    before = np.asarray(start()[0].slow["bottleneck"]["sums"])
    parts, whole = trained(2), trained(8)
    assert np.abs(parts.slow["bottleneck"]["sums"] - before).max() > 1e-3
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), parts.slow, whole.slow)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), parts.params, whole.params)


def test_it_does_not_need_the_whole_batch():
    assert not start()[0].needs_whole_batch
    assert RECIPE.fit.resolved(start()[0]).micro_batch in (4, 8)
    assert isinstance(start()[0], Policy)


def test_bad_settings_are_refused():
    for changes in ({"num_codes": 1}, {"code_decay": 1.0}, {"num_bottlenecks": 0}, {"commitment": -1.0}):
        with pytest.raises(InputError, match=next(iter(changes))):
            CodebookConfig(**changes)
