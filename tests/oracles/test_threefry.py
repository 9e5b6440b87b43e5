"""The draws written out are those of ``jax.random``; what has no counterpart there has its distribution."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from icrl.core import threefry
from icrl.core.seeding import key_for

SHAPES = [(), (1,), (7,), (3, 5)]
FOREIGN = [jax.random.key(1, impl="rbg"), jax.random.PRNGKey(1)]  # another generator, a key without a type


def data(keys):
    return np.asarray(jax.random.key_data(keys) if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else keys)


@pytest.mark.parametrize("shape", SHAPES)
def test_draws_are_those_of_jax(shape):
    keys = jax.random.split(key_for(3, "threefry"), 20)
    for name in ("bits", "uniform", "normal", "gumbel"):
        ours, theirs = (partial(getattr(module, name), shape=shape) for module in (threefry, jax.random))
        np.testing.assert_array_equal(*(jax.jit(jax.vmap(draw))(keys) for draw in (ours, theirs)), err_msg=name)
    ranged = jax.jit(lambda key: threefry.uniform(key, shape, -2.0, 3.0))(keys[0])
    expected = jax.random.uniform(keys[0], shape, minval=-2.0, maxval=3.0)
    np.testing.assert_allclose(ranged, expected, atol=5e-7)  # a multiplication and an addition, fused or not


def same_of_both(draw):
    """What ``draw(module, key)`` is for keys side by side, in our module and in jax's, which must be the same."""
    keys = jax.random.split(key_for(3, "threefry"), 500)
    ours, theirs = (np.asarray(jax.jit(jax.vmap(partial(draw, module)))(keys)) for module in (threefry, jax.random))
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype
    return ours


@pytest.mark.parametrize("shape", SHAPES)
def test_coins_and_integers_are_those_of_jax(shape):
    assert 0.2 < same_of_both(lambda module, key: module.bernoulli(key, 0.3, shape)).mean() < 0.4
    for low, high in ((0, 5), (-2, 2**30), (7, 7), (0, 2**16 + 1)):
        found = same_of_both(lambda module, key, low=low, high=high: module.randint(key, shape, low, high))
        assert low <= found.min() and found.max() < max(high, low + 1)


@pytest.mark.parametrize("count", [1, 2, 5, 700])
def test_choices_are_those_of_jax(count):
    """Also where some logits are -inf."""
    logits = 3 * jax.random.normal(key_for(3, "logits"), (count,)).at[1::3].set(-jnp.inf)
    found = same_of_both(lambda module, key: module.categorical(key, logits))
    assert not np.isin(found, np.arange(count)[1::3]).any()


def test_the_range_of_gumbel_that_jax_is_told_to_use_is_followed():
    keys = jax.random.split(key_for(3, "choices"), 50)
    by_default = jax.vmap(threefry.gumbel)(keys)
    jax.config.update("jax_high_dynamic_range_gumbel", True)
    try:
        ours, theirs = (np.asarray(jax.vmap(module.gumbel)(keys)) for module in (threefry, jax.random))
    finally:
        jax.config.update("jax_high_dynamic_range_gumbel", False)
    np.testing.assert_array_equal(ours, theirs)
    assert (ours != np.asarray(by_default)).any()


def test_draws_are_written_out():
    """No primitive of jax's generator is left that a CPU would run as a loop, and no batch of keys passes for one."""
    key = key_for(3, "threefry")
    more = [
        lambda key: threefry.categorical(key, jnp.zeros(3)),
        lambda key: threefry.randint(key, (), 0, 3),
        lambda key: threefry.words(key, 3),
    ]
    for draw in (threefry.bits, threefry.normal, threefry.bernoulli, threefry.split, threefry.apart, *more):
        names = {equation.primitive.name for equation in jax.make_jaxpr(draw)(key).eqns}
        assert not names & {"random_bits", "random_split", "random_fold_in", "threefry2x32"}
        with pytest.raises(AssertionError, match="one key"):
            draw(jax.random.split(key))


def test_keys_are_those_of_jax():
    keys = jax.random.split(key_for(3, "threefry"), 20)
    ours = jax.jit(jax.vmap(lambda key: threefry.split(key, 5)))(keys)
    np.testing.assert_array_equal(data(ours), data(jax.vmap(lambda key: jax.random.split(key, 5))(keys)))
    each = jax.jit(jax.vmap(lambda key: threefry.apart(key, 5)))(keys)
    np.testing.assert_array_equal(np.stack([data(one) for one in each], axis=1), data(ours))
    numbers = jnp.array([0, 1, 2**31, 2**32 - 1] * 5, jnp.uint32)
    np.testing.assert_array_equal(
        data(jax.vmap(threefry.fold_in)(keys, numbers)), data(jax.vmap(jax.random.fold_in)(keys, numbers))
    )


def test_keys_are_not_put_in_memory():
    """From a key to a draw by one of its kin XLA makes one loop, without a key and without what the other one needs."""

    def draw(key):
        first, _ = threefry.apart(threefry.fold_in(key, 3))
        return threefry.bits(first)

    keys = jax.random.split(key_for(3, "threefry"), 20)
    program = jax.jit(jax.vmap(draw)).lower(keys).compile().as_text()
    assert " concatenate(" not in program and len(re.findall(r" fusion\(", program)) == 1
    np.testing.assert_array_equal(data(jax.vmap(threefry.stored)(keys)), data(keys))
    assert len(re.findall(r" xor\(", program)) < 4 * 20  # of three blocks of 20 rounds each


@pytest.mark.parametrize("key", FOREIGN, ids=["rbg", "untyped"])
def test_other_keys_are_left_to_jax(key):
    np.testing.assert_array_equal(data(threefry.split(key, 3)), data(jax.random.split(key, 3)))
    np.testing.assert_array_equal(data(threefry.apart(key, 3)[2]), data(jax.random.split(key, 3)[2]))
    np.testing.assert_array_equal(data(threefry.fold_in(key, 3)), data(jax.random.fold_in(key, 3)))
    np.testing.assert_array_equal(threefry.normal(key, (3,)), jax.random.normal(key, (3,)))
    np.testing.assert_array_equal(threefry.gumbel(key, (3,)), jax.random.gumbel(key, (3,)))
    np.testing.assert_array_equal(threefry.randint(key, (3,), 0, 9), jax.random.randint(key, (3,), 0, 9))
    assert len(threefry.words(key, 3)) == 3


def test_the_form_of_the_generator_that_jax_is_told_to_use_is_followed():
    key = key_for(3, "threefry")
    by_default = threefry.bits(key, (5,))
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(threefry.bits(key, (5,)), jax.random.bits(key, (5,), jnp.uint32))
        np.testing.assert_array_equal(data(threefry.split(key, 3)), data(jax.random.split(key, 3)))
        assert (threefry.bits(key, (5,)) != by_default).any()


@pytest.mark.parametrize("count", [1, 2, 5, 81, 16384, 65536])
def test_below_is_uniform(count):
    """All of 2^22 evenly spaced words: each number as often as the others, but for one word more or less."""
    words = jnp.arange(2**22, dtype=jnp.uint32) * 1024
    found = np.asarray(threefry.below(words, count))
    assert found.dtype == np.int32
    times = np.bincount(found, minlength=count)
    assert len(times) == count and np.ptp(times) <= 1
    assert int(threefry.below(jnp.uint32(2**32 - 1), count)) == count - 1


def test_words_are_independent():
    """Three words of 100 000 keys: each uniform, and no two of them correlated."""
    keys = jax.random.split(key_for(4, "threefry"), 100_000)
    found = np.stack(jax.jit(jax.vmap(lambda key: threefry.words(key, 3)))(keys))
    assert len(np.unique(found)) > 0.9999 * found.size
    for each in found:
        assert chisquare(np.bincount(each >> 26, minlength=64)).pvalue > 1e-6
    scores = np.corrcoef(found.astype(np.float64))[np.triu_indices(3, 1)] * np.sqrt(found.shape[1])
    assert np.abs(scores).max() < 4.3
    fractions = np.asarray(threefry.fraction(jnp.asarray(found[0])))
    assert fractions.min() >= 0 and fractions.max() < 1 and abs(fractions.mean() - 0.5) < 4.3 / np.sqrt(12 * 100_000)
