"""Attention of a whole sequence and behind each kind of memory: its formula, its gradient, what cuDNN is asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.models._token_policy import Policy
from icrl.models.hybrid import Hybrid, HybridConfig
from icrl.models.layers import attention
from icrl.models.layers.attention import causal_attention
from icrl.models.layers.cached_attention import Ring, cached_attention, empty_memory, forked
from icrl.models.layers.self_attention import Place, SelfAttention
from icrl.testing.models import LENGTH, policy_of, tokens_and_starts


@pytest.mark.parametrize("window", [0, 30])
@pytest.mark.parametrize("kind", ["softmax", "relu"])
def test_attention_is_its_formula(kind, window):
    """All forms, against all pairs of positions at once in float64."""
    q, k, v = jax.random.normal(jax.random.key(0), (3, 200, 2, 4))
    start = jax.random.bernoulli(jax.random.key(1), 0.02, (200,))
    first = np.maximum.accumulate(np.where(start, np.arange(200), 0))
    time = np.arange(200)
    visible = (
        (time[None] <= time[:, None]) & (time[None] >= first[:, None]) & (time[None] > time[:, None] - (window or 200))
    )
    scores = np.einsum("thd,shd->hts", np.float64(q), np.float64(k))
    weights = np.where(visible, np.exp(scores / 2) if kind == "softmax" else np.maximum(scores, 0), 0)
    total = weights.sum(-1) if kind == "softmax" else visible.sum(-1)[None]
    expected = np.einsum("hts,shd->thd", weights / total[..., None], np.float64(v))
    flat = jax.jit(lambda q: causal_attention(q, k, v, first, kind, window))
    np.testing.assert_allclose(flat(q), expected, atol=4e-6)

    @jax.jit
    def read_on(memory, at, *new):  # new: q, k, v, first
        return cached_attention(*new[:3], memory, at, new[3], kind, window)

    def read(memory, low, sizes):
        """What is found by reading on from position ``low`` in pieces, and the memory behind the last of them."""
        found = []
        for size in sizes:
            piece = slice(low, low + size)
            y, memory = read_on(memory, jnp.int32(low), q[piece], k[piece], v[piece], first[piece])
            found.append(y)
            low += size
        return np.concatenate(found), memory

    empty = empty_memory(560, 2, 4, window)  # four parts of 144
    assert isinstance(empty, Ring) == bool(window)
    for sizes in ([200], [1, 2, 3, 60, 64, 70], [100, *[1] * 100], [7] * 28 + [4]):
        np.testing.assert_allclose(read(empty, 0, sizes)[0], expected, atol=4e-6)
    trunk, lows = read(empty, 0, [150])[1], [150, 151]
    futures = read(forked(trunk, 50), 150, [1, 2, 40, 7])[0]
    np.testing.assert_allclose(futures, expected[150:], atol=4e-6)
    # lives side by side that have come to different positions
    memories = [read(empty, 0, [low])[1] for low in lows]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *memories)
    few = np.asarray(lows)[:, None] + np.arange(4)
    y, _ = jax.vmap(read_on)(stacked, jnp.asarray(lows), q[few], k[few], v[few], first[few])
    np.testing.assert_allclose(y, expected[few], atol=4e-6)


def dense_attention(q, k, v, first, kind, window):
    """All pairs of positions at once."""
    time = jnp.arange(q.shape[0])
    visible = (time[None] <= time[:, None]) & (time[None] >= first[:, None])
    visible &= time[None] > time[:, None] - (window or len(time))
    scores = jnp.einsum("thd,shd->hts", q, k)
    weights = jnp.where(visible[None], jnp.exp(scores / q.shape[-1] ** 0.5) if kind == "softmax" else scores, 0)
    weights = jnp.maximum(weights, 0)
    total = jnp.sum(weights, -1) if kind == "softmax" else jnp.sum(visible, -1)[None]
    return jnp.einsum("hts,shd->thd", weights / total[..., None], v)


@pytest.mark.parametrize("window", [0, 30])
@pytest.mark.parametrize("kind", ["softmax", "relu"])
def test_attention_has_the_gradient_of_its_formula(kind, window):
    """The pass backwards is written by hand: against autodiff of all pairs at once, both in float64."""
    with jax.enable_x64(True):
        q, k, v, weight = (
            jax.random.normal(key, (150, 2, 4), jnp.float64) for key in jax.random.split(jax.random.key(0), 4)
        )
        start = jax.random.bernoulli(jax.random.key(1), 0.02, (150,))
        first = jax.lax.cummax(jnp.where(start, jnp.arange(150, dtype=jnp.int32), 0))

        def slopes(attention):
            total = lambda *qkv: jnp.sum(weight * attention(*qkv, first, kind, window))  # noqa: E731
            return jax.jit(jax.grad(total, (0, 1, 2)))(q, k, v)

        for found, expected in zip(slopes(causal_attention), slopes(dense_attention), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_program_of_attention_does_not_grow_with_time():
    def program(length):
        q = jax.ShapeDtypeStruct((length, 2, 4), jnp.float32)
        return jax.jit(jax.grad(lambda q: jnp.sum(causal_attention(q, q, q)))).lower(q)

    short, long = program(2048), program(16384)
    assert len(short.as_text().splitlines()) == len(long.as_text().splitlines())
    memory = [each.compile().memory_analysis().temp_size_in_bytes for each in (short, long)]
    assert memory[1] < 9 * memory[0]  # 64 times as much where all pairs are kept


def test_rotary_attention_depends_on_distances_alone():
    layer = SelfAttention(8, 2, nnx.Rngs(0), rotary=True)
    u, positions = jax.random.normal(jax.random.key(0), (6, 8)), jnp.arange(6)
    near, far, apart = (
        layer(u, Place(jnp.int32(0), None, at), None)[0] for at in (positions, positions + 9, 3 * positions)
    )
    np.testing.assert_allclose(near, far, atol=1e-5)
    assert np.abs(near - apart).max() > 1e-3


@pytest.mark.parametrize("window", [0, 30])
def test_the_fused_kernel_is_asked_for_the_same(window, monkeypatch):
    """What cuDNN is asked for, computed by XLA: an odd number of positions, bfloat16."""
    q, k, v = jax.random.normal(jax.random.key(0), (3, 151, 2, 8), jnp.bfloat16)
    expected = jax.jit(lambda *each: causal_attention(*each, window=window))(q, k, v)
    asked = []

    def by_xla(*args, implementation, **options):
        asked.append(args[0].shape[0])
        return dot_product(*args, **options)

    dot_product = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    monkeypatch.setattr(attention, "_has_cudnn", lambda: True)
    found = causal_attention(q, k, v, window=window)
    assert asked == [152] and found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.03)
    assert causal_attention(q, k, v, jnp.zeros(151, jnp.int32)).dtype == jnp.float32 and len(asked) == 1


def test_attention_among_recurrent_layers_asks_for_the_fused_kernel_where_nothing_begins(monkeypatch):
    """In training; not behind a start, and not where it is to be remembered."""
    config = HybridConfig(width=16, num_layers=2, matmuls="bfloat16")
    policy, asked = Policy.split(policy_of(Hybrid, config, LENGTH)), []
    monkeypatch.setattr(attention, "_has_cudnn", lambda: True)
    monkeypatch.setattr(attention, "_fused", lambda q, k, v, window: asked.append(window) or v)
    tokens, start = tokens_and_starts(LENGTH)
    jax.eval_shape(lambda: policy(tokens))
    assert asked == [0]
    jax.eval_shape(lambda: (policy(tokens, start), policy(tokens, None, policy.initial_carry())))
    assert asked == [0]
