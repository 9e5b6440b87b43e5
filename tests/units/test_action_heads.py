"""Action heads against SciPy's densities and their own samples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from icrl.core.action_heads import BOX_HEADS, INSIDE, Categorical, Gaussian, head_of, mean_and_std
from icrl.core.boxes import Box
from icrl.core.errors import InputError

BOX = Box((-2.0, 0.0), (2.0, 1.0))
OUT = jnp.array([0.3, -0.4, 0.2, -0.6])  # two means, two numbers that give log std
DRAWS = 40_000


def many(head, out=OUT):
    return np.asarray(jax.vmap(head.sample, in_axes=(0, None))(jax.random.split(jax.random.key(0), DRAWS), out))


def test_categorical_is_the_softmax_of_logits():
    head, logits = head_of(3, None), jnp.array([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]])
    assert (head, head.size, head.action_shape, int(head.no_action())) == (Categorical(3), 3, (), -1)
    wanted = -np.log(np.asarray(jax.nn.softmax(logits)))[[0, 1], [2, 0]]
    np.testing.assert_allclose(head.neg_log_prob(logits, jnp.array([2, 0])), wanted, rtol=1e-6)
    smooth = head.smoothed(0.3).neg_log_prob(logits[:1], jnp.array([2]))
    np.testing.assert_allclose(smooth, 0.7 * wanted[0] + 0.1 * -np.log(jax.nn.softmax(logits[0])).sum(), rtol=1e-6)
    assert int(head.mode(logits[0])) == 2
    assert int(head.if_finite(logits[0] / 0, head.mode(logits[0]))) == -1


def test_gaussian_density_is_scipy_s_and_its_samples_are_its_own_but_for_the_cut():
    head, unit = Gaussian(BOX), jnp.array([[0.1, -0.2], [1.0, -1.0]])
    mean, std = (np.asarray(part, np.float64) for part in mean_and_std(OUT))
    found = head.neg_log_prob(OUT[None], BOX.from_unit(unit))
    np.testing.assert_allclose(found, -stats.norm(mean, std).logpdf(unit).sum(-1), rtol=1e-4)
    units = np.asarray(BOX.to_unit(many(head)))
    for axis in range(2):
        law = stats.norm(mean[axis], std[axis])
        inside = np.abs(units[:, axis]) < 1
        assert (
            stats.kstest(
                units[inside, axis][:20_000],
                stats.truncnorm(
                    (-1 - mean[axis]) / std[axis],
                    (1 - mean[axis]) / std[axis],
                    mean[axis],
                    std[axis],
                ).cdf,
            ).pvalue
            >= 2e-5
        )
        beyond = law.sf(1)
        assert abs((units[:, axis] == 1).mean() - beyond) <= 4.3 * np.sqrt(beyond / DRAWS) + 1e-4
    np.testing.assert_allclose(head.mode(OUT), BOX.from_unit(jnp.asarray(mean, jnp.float32)), rtol=1e-6)


def test_squashed_density_integrates_to_one_and_is_that_of_its_samples():
    head = BOX_HEADS["squashed"](Box.cube(1))
    out, grid = jnp.array([0.4, -0.2]), np.linspace(-0.999, 0.999, 40_001)
    density = np.exp(-np.asarray(head.neg_log_prob(out[None], jnp.asarray(grid, jnp.float32)[:, None])))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=5e-3)
    drawn = many(head, out)[:, 0]
    mean, std = (float(part[0]) for part in mean_and_std(out))
    assert stats.kstest(np.arctanh(drawn[:20_000]), stats.norm(mean, std).cdf).pvalue >= 2e-5
    assert np.all(np.abs(drawn) < 1)
    edge, near = (head.neg_log_prob(out, jnp.array([u])) for u in (1.0, INSIDE))
    assert np.isfinite(edge) and edge > near  # the surface counts as a place close to it


def test_mean_squared_error_has_no_chance():
    head = BOX_HEADS["mse"](BOX)
    out = jnp.array([0.5, 3.0])
    np.testing.assert_array_equal(head.sample(jax.random.key(0), out), [1.0, 1.0])  # the second is clipped
    assert float(head.neg_log_prob(out, jnp.array([0.0, 1.0]))) == pytest.approx((0.5**2 + 2.0**2) / 2)


@pytest.mark.parametrize("name", BOX_HEADS)
def test_heads_of_boxes(name):
    """Sizes, actions inside, batches as rows, gradients everywhere, and NaN for no action."""
    head = head_of(0, BOX, name)
    out = jax.random.normal(jax.random.key(1), (5, head.size))
    actions = jax.vmap(head.sample)(jax.random.split(jax.random.key(2), 5), 3 * out)
    assert actions.shape == (5, 2) and actions.dtype == jnp.float32
    assert np.array_equal(actions, BOX.clip(actions))
    together = head.neg_log_prob(out, actions)
    alone = [head.neg_log_prob(row, action) for row, action in zip(out, actions, strict=True)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-5)
    corners = jnp.array([[2.0, 1.0], [-2.0, 0.0], [9.0, -9.0], [0.0, 0.5], [2.0, 0.0]])
    gradient = jax.grad(lambda o: head.neg_log_prob(o, corners).sum())(100 * out)
    assert np.all(np.isfinite(gradient))
    assert bool(head.is_none(head.no_action())) and not bool(head.is_none(actions[0]))
    assert np.all(np.isnan(head.if_finite(out[0] / 0, actions[0])))


def test_a_likely_action_is_learned():
    """Descent on each loss brings the mode to the action that is always seen."""
    action = jnp.array([1.5, 0.2])
    for head in (Gaussian(BOX), BOX_HEADS["squashed"](BOX), BOX_HEADS["mse"](BOX)):
        out = jnp.zeros(head.size)
        adam = optax.adam(0.02)

        def step(carry, _, head=head, adam=adam):
            out, state = carry
            updates, state = adam.update(jax.grad(head.neg_log_prob)(out, action), state)
            return (out + updates, state), None

        out = jax.lax.scan(step, (out, adam.init(out)), length=400)[0][0]
        np.testing.assert_allclose(head.mode(out), action, atol=0.02, err_msg=type(head).__name__)


def test_boxes_scale_and_refuse():
    unit = jnp.array([[-1.0, -1.0], [0.0, 0.5], [5.0, 1.0]])
    np.testing.assert_allclose(BOX.from_unit(unit), [[-2, 0], [0, 0.75], [2, 1]])
    np.testing.assert_allclose(BOX.to_unit(BOX.from_unit(unit)), jnp.clip(unit, -1, 1), atol=1e-6)
    drawn = np.asarray(jax.vmap(BOX.draw)(jax.random.split(jax.random.key(0), 20_000)))
    assert stats.kstest(drawn[:, 0], stats.uniform(-2, 4).cdf).pvalue >= 2e-5
    assert stats.kstest(drawn[:, 1], "uniform").pvalue >= 2e-5
    for low, high in (((0.0,), (0.0,)), ((0.0,), (float("inf"),)), ((), ()), ((0.0,), (1.0, 2.0))):
        with pytest.raises(InputError, match=r"^action box"):
            Box(low, high)
    with pytest.raises(InputError, match=r"^action_head: got 'gaussian', allowed: none"):
        head_of(3, None, "gaussian")
    with pytest.raises(InputError, match=r"^label_smoothing: got 0.1, allowed: 0.0"):
        Gaussian(BOX).smoothed(0.1)
    assert dataclasses.replace(BOX) == BOX and hash(dataclasses.replace(BOX)) == hash(BOX)
