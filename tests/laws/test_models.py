"""Laws of every sequence model: one call, three forms that agree, no leak from the future or over a start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.models.attention import QUERY_BLOCK
from icrl.models.token_policy import FrozenPolicy, TokenPolicy
from icrl.registry import models

CAPACITY = 2048
LENGTHS = (1, 2, 127, 300)
VARIANTS = {"transformer": [{}, {"num_heads": 1, "positions": "none"}]}  # settings tried beside the defaults
TOLERANCE = 1e-5  # of the largest output, float32

CASES = [
    pytest.param(name, settings, id=f"{name}-{'-'.join(map(str, settings.values())) or 'default'}")
    for name in models
    for settings in VARIANTS.get(name, [{}])
]


def build(name: str, settings: dict) -> FrozenPolicy:
    rngs = nnx.Rngs(0)
    config = models[name].Config(width=16, num_layers=2, init_std=0.3, **settings)
    return FrozenPolicy.split(TokenPolicy(8, 5, models[name](config, CAPACITY, rngs), 0.3, rngs))


def tokens_and_starts(length: int, seed: int = 1):
    key_x, key_start = jax.random.split(jax.random.key(seed))
    return jax.random.normal(key_x, (length, 8)), jax.random.bernoulli(key_start, 0.05, (length,))


@jax.jit
def parallel(policy, x, start):
    return policy(x, start)[0]


@jax.jit
def stepwise(policy, x, start):
    def step(carry, item):
        token, begins = item
        y, carry = policy(token[None], begins[None], carry)
        return carry, y[0]

    return jax.lax.scan(step, policy.initial_carry(), (x, start))[1]


@jax.jit
def one_chunk(policy, x, start, carry):
    return policy(x, start, carry)


def chunked(policy, x, start, size: int):
    carry, outputs = policy.initial_carry(), []
    for low in range(0, len(x), size):
        y, carry = one_chunk(policy, x[low : low + size], start[low : low + size], carry)
        outputs.append(y)
    return jnp.concatenate(outputs)


def assert_close(a, b):
    scale = float(jnp.abs(a).max())
    assert float(jnp.abs(a - b).max()) <= TOLERANCE * scale


@pytest.mark.parametrize(("name", "settings"), [case.values for case in CASES], ids=[case.id for case in CASES])
class TestLaws:
    @pytest.mark.parametrize("length", LENGTHS)
    def test_parallel_equals_step(self, name, settings, length):
        policy, (x, start) = build(name, settings), tokens_and_starts(length)
        assert_close(parallel(policy, x, start), stepwise(policy, x, start))

    @pytest.mark.parametrize("size", [7, 100])
    def test_parallel_equals_chunks(self, name, settings, size):
        policy, (x, start) = build(name, settings), tokens_and_starts(200)
        assert_close(parallel(policy, x, start), chunked(policy, x, start, size))

    def test_no_start_equals_start_at_zero_only(self, name, settings):
        policy, (x, _) = build(name, settings), tokens_and_starts(50)
        only_first = jnp.arange(50) == 0
        assert_close(policy(x, None)[0], policy(x, only_first)[0])
        assert_close(policy(x, None)[0], policy(x, None, policy.initial_carry())[0])

    def test_outputs_after_a_start_equal_a_fresh_beginning(self, name, settings):
        policy, (x, _) = build(name, settings), tokens_and_starts(150)
        start = jnp.arange(150) == 60
        fresh = parallel(policy, x[60:], jnp.zeros(90, bool))
        assert_close(fresh, parallel(policy, x, start)[60:])
        assert_close(fresh, stepwise(policy, x, start)[60:])

    def test_replacing_the_future_changes_nothing_before_it(self, name, settings):
        policy, (x, start) = build(name, settings), tokens_and_starts(QUERY_BLOCK + 40)
        other = jax.random.normal(jax.random.key(9), x.shape)
        cuts = np.random.default_rng(0).integers(1, len(x), 100)
        swapped = jax.vmap(lambda cut: jnp.where((jnp.arange(len(x)) < cut)[:, None], x, other))(cuts)
        before = parallel(policy, x, start)
        after = jax.jit(jax.vmap(policy, in_axes=(0, None)))(swapped, start)[0]
        same = jax.jit(jax.vmap(policy, in_axes=(0, None)))(jnp.broadcast_to(x, swapped.shape), start)[0]
        past = jnp.arange(len(x)) < cuts[:, None]
        assert float(jnp.abs(jnp.where(past[..., None], after - same, 0.0)).max()) == 0.0
        assert not bool(jnp.allclose(after[:, -1], before[-1]))  # the swap reached the model at all

    def test_rows_of_a_batch_do_not_meet(self, name, settings):
        policy = build(name, settings)
        rows = jnp.stack([tokens_and_starts(60, seed)[0] for seed in range(8)])
        batched = jax.jit(jax.vmap(lambda x: policy(x)[0]))(rows)
        for row, y in zip(rows, batched, strict=True):
            assert_close(policy(row)[0], y)

    def test_gradients_of_the_parallel_form_are_finite(self, name, settings):
        policy, (x, start) = build(name, settings), tokens_and_starts(140)

        def energy(params):
            return jnp.sum(policy.replace(params=params)(x, start)[0] ** 2)

        gradient = jax.jit(jax.grad(energy))(policy.params)
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
        assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient))

    def test_step_compiles_once(self, name, settings):
        policy, (x, _) = build(name, settings), tokens_and_starts(5)
        traces = []

        @jax.jit
        def step(policy, token, carry):
            traces.append(1)
            return policy(token[None], None, carry)

        carry = policy.initial_carry()
        for token in x:
            _, carry = step(policy, token, carry)
        assert len(traces) == 1


def test_flat_attention_matches_a_plain_softmax():
    from icrl.models.attention import causal_attention

    q, k, v = jax.random.normal(jax.random.key(0), (3, 200, 2, 4))
    segment = jnp.cumsum(jax.random.bernoulli(jax.random.key(1), 0.02, (200,)))
    scores = np.einsum("thd,shd->hts", np.float64(q), np.float64(k)) / 2.0
    visible = (np.arange(200)[None] <= np.arange(200)[:, None]) & (np.asarray(segment)[:, None] == np.asarray(segment))
    weights = np.where(visible, np.exp(scores), 0.0)
    expected = np.einsum("hts,shd->thd", weights / weights.sum(-1, keepdims=True), np.float64(v))
    np.testing.assert_allclose(causal_attention(q, k, v, segment), expected, atol=2e-6)


def test_transformer_parameter_count_is_the_formula():
    width, layers, hidden = 16, 2, 64
    block = 4 * width + (width + 1) * 3 * width + (width + 1) * width + (width + 1) * hidden + (hidden + 1) * width
    backbone = layers * block + 2 * width + CAPACITY * width
    ends = (8 + 1) * width + (width + 1) * 5
    assert build("transformer", {}).num_parameters == backbone + ends
