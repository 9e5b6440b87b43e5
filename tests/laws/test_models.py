"""Laws of every sequence model: one call, three forms that agree, no leak between past, future, episodes and rows.

What is compared is compiled in three programs a model, as compiling is what these tests cost: ``forms`` (all forms in
float32), ``rows`` (many sequences at once, for what must hold bit by bit) and ``gradients`` (all forms in float64).
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.models import recurrence
from icrl.models.attention import cached_attention, causal_attention
from icrl.models.token_policy import FrozenPolicy, TokenPolicy
from icrl.registry import models

TOKEN, ACTIONS, CAPACITY = 8, 5, 320
LENGTH = 300  # longer than all the chunks that models work in
SHORT = (1, 2, 127)
PIECE = 43  # of a sequence that is read in pieces: odd, and no chunk's divisor or multiple
ROWS = 256
TOLERANCE, TOLERANCE_64 = 1e-5, 1e-10  # of the largest value
VARIANTS = {  # settings tried beside the defaults
    "transformer": [
        {"num_layers": 2},
        {"norm": "rms", "positions": "rotary", "mlp": "swiglu", "final_norm": False},
        {"attention": "relu", "attention_bias": False, "norm_first": False, "positions": "sinusoidal"},
        {"num_heads": 1, "positions": "none", "attention_window": 50},
    ],
    "s5": [{"num_layers": 2}, {"discretisation": "bilinear", "conj_sym": False}],
}
OPTIONS = {"xla_backend_optimization_level": 0}  # compiles faster; what is computed is the same

CASES = [
    pytest.param((name, tuple(settings.items())), id="-".join([name, *map(str, settings.values())]))
    for name in models
    for settings in VARIANTS.get(name, [{}])
]
compiled = partial(jax.jit, compiler_options=OPTIONS)


@cache
def build(case: tuple) -> FrozenPolicy:
    name, settings = case
    config = models[name].Config(**{"width": 16, "num_layers": 1, "init_std": 0.3, **dict(settings)})
    rngs = nnx.Rngs(0)
    return FrozenPolicy.split(TokenPolicy(TOKEN, ACTIONS, models[name](config, CAPACITY, rngs), 0.3, rngs))


def tokens_and_starts(length: int = LENGTH, key=None):
    """Random tokens, and starts at about one step in twenty."""
    key_x, key_start = jax.random.split(jax.random.key(1) if key is None else key)
    return jax.random.normal(key_x, (length, TOKEN)), jax.random.bernoulli(key_start, 0.05, (length,))


def widened(tree):
    """Real numbers in float64 and complex ones in complex128; integers stay."""
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, np.float64)) if is_inexact(x) else x, tree)


def is_inexact(x) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def empty_past(policy, x):
    return widened(policy.initial_carry()) if x.dtype == jnp.float64 else policy.initial_carry()


def parallel(policy, x, start):
    return policy(x, start)[0]


def stepwise(policy, x, start):
    """One step at a time, as in acting."""

    def step(carry, item):
        y, carry = policy(item[0][None], item[1][None], carry)
        return carry, y[0]

    return jax.lax.scan(step, empty_past(policy, x), (x, start))[1]


def in_pieces(policy, x, start):
    """PIECE steps at a time, and what is left; the memory passes from piece to piece."""

    def read(carry, item):
        y, carry = policy(*item, carry)
        return carry, y

    whole = len(x) // PIECE * PIECE
    pieces = jax.tree.map(lambda a: a[:whole].reshape(-1, PIECE, *a.shape[1:]), (x, start))
    carry, y = jax.lax.scan(read, empty_past(policy, x), pieces)
    return jnp.concatenate([y.reshape(whole, -1), read(carry, (x[whole:], start[whole:]))[1]])


FORMS = {"parallel": parallel, "stepwise": stepwise, "in pieces": in_pieces}


@compiled
def forms(policy, x, start):
    """Outputs of every form, those of shorter sequences, and of one without starts."""
    found = {name: form(policy, x, start) for name, form in FORMS.items()}
    found |= {f"parallel {length}": parallel(policy, x[:length], start[:length]) for length in SHORT}
    return found | {"no start": parallel(policy, x[:2], None), "started": parallel(policy, x[:2], jnp.arange(2) == 0)}


@compiled
def rows(policy, x, start):
    """Outputs [ROWS, 127, K] of many sequences at once."""
    return jax.vmap(parallel, in_axes=(None, 0, 0))(policy, x, start)


@partial(compiled, static_argnames="form")
def gradients(policy, x, start, form: str):
    """Gradients of a random weighted sum of the outputs by parameters and tokens; and the outputs."""
    weights = jax.random.normal(jax.random.key(3), (len(x), ACTIONS), x.dtype)

    def weighted(params, x):
        y = FORMS[form](policy.replace(params=params), x, start)
        return jnp.sum(weights * y), y

    return jax.grad(weighted, argnums=(0, 1), has_aux=True)(policy.params, x)


def assert_close(found, expected, tolerance=TOLERANCE, what=""):
    worst = float(jnp.abs(found - expected).max()) / float(jnp.abs(expected).max())
    assert worst <= tolerance, f"{what}: off by {worst:.1e} of the largest value"


def assert_same_tree(found, expected, tolerance, what):
    pairs = zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, a), b in pairs:
        assert_close(a, b, tolerance, what + jax.tree_util.keystr(path))


def random_rows(seed: int):
    """Tokens [ROWS, 127, D] and starts [ROWS, 127]."""
    return jax.vmap(lambda key: tokens_and_starts(127, key))(jax.random.split(jax.random.key(seed), ROWS))


def where_rows(mask, this, other):
    """Rows of tokens and starts: those of ``this`` where the mask [ROWS, T] holds, else of ``other``."""
    return jnp.where(mask[..., None], this[0], other[0]), jnp.where(mask, this[1], other[1])


@pytest.mark.parametrize("case", CASES)
class TestLaws:
    def test_all_forms_agree(self, case):
        x, start = tokens_and_starts()
        found = forms(build(case), x, start)
        assert_close(found.pop("no start"), found.pop("started"), what="no start")
        for what, y in found.items():
            assert_close(y, found["parallel"][: len(y)], what=what)

    def test_all_forms_and_their_gradients_agree_in_float64(self, case):
        with jax.enable_x64(True):
            policy, (x, start) = widened(build(case)), widened(tokens_and_starts())
            expected, y = gradients(policy, x, start, "parallel")
            for form in FORMS:
                found = gradients(policy, x, start, form)
                assert_same_tree(found, (expected, y), TOLERANCE_64, form)
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(expected)]
        assert all(np.isfinite(leaf).all() and leaf.any() for leaf in leaves)

    def test_the_past_does_not_see_the_future(self, case):
        policy, these = build(case), random_rows(0)
        before, time = rows(policy, *these), jnp.arange(127)
        for seed in range(1, 5):  # 1 024 pairs
            cut = jax.random.randint(jax.random.key(seed), (ROWS, 1), 1, 127)
            after = rows(policy, *where_rows(time < cut, these, random_rows(seed)))
            assert float(jnp.abs(jnp.where((time < cut)[..., None], after - before, 0.0)).max()) == 0.0
            assert bool(jnp.any(after[:, -1] != before[:, -1], axis=-1).all())  # the swap reached the model at all

    def test_nothing_passes_over_a_start(self, case):
        policy, (x, start) = build(case), random_rows(0)
        time, cut = jnp.arange(127), jax.random.randint(jax.random.key(7), (ROWS, 1), 1, 127)
        start = start | (time == cut)
        found = rows(policy, x, start)
        other = rows(policy, *where_rows(time >= cut, (x, start), random_rows(1)))
        assert float(jnp.abs(jnp.where((time >= cut)[..., None], found - other, 0.0)).max()) == 0.0
        shifted = (time + cut) % 127
        fresh = rows(policy, jnp.take_along_axis(x, shifted[..., None], 1), jnp.take_along_axis(start, shifted, 1))
        found = jnp.take_along_axis(found, shifted[..., None], 1)
        assert_close(*(jnp.where((time + cut < 127)[..., None], y, 0.0) for y in (fresh, found)))

    def test_rows_of_a_batch_do_not_meet(self, case):
        policy, (x, start) = build(case), random_rows(0)
        kept = jnp.arange(ROWS)[:, None] % 8 == 0
        others = rows(policy, *where_rows(jnp.broadcast_to(kept, start.shape), (x, start), random_rows(1)))
        found = rows(policy, x, start)
        assert float(jnp.abs(jnp.where(kept[..., None], found - others, 0.0)).max()) == 0.0
        assert_close(found[8], parallel(policy, x[8], start[8]))

    def test_a_step_is_compiled_once(self, case):
        """The memory comes out of a step as it went in: shapes, types, and weak types."""
        policy, (x, start) = build(case), tokens_and_starts(1)
        carry = jax.eval_shape(lambda policy: policy.initial_carry(), policy)
        assert jax.eval_shape(lambda policy, carry: policy(x, start, carry)[1], policy, carry) == carry


@pytest.mark.parametrize("case", CASES)
def test_the_associative_form_agrees(case, monkeypatch):
    """Of the models that have one: what runs on an accelerator."""
    policy, (x, start) = build(case), tokens_and_starts()
    expected = forms(policy, x, start)["parallel"]
    traced = str(jax.make_jaxpr(parallel)(policy, x, start))
    monkeypatch.setattr(recurrence, "METHOD", "associative")
    if str(jax.make_jaxpr(partial(parallel))(policy, x, start)) == traced:
        pytest.skip("has no associative form")
    assert_close(compiled(partial(parallel))(policy, x, start), expected)


@pytest.mark.parametrize("window", [0, 30])
@pytest.mark.parametrize("kind", ["softmax", "relu"])
def test_attention_is_its_formula(kind, window):
    """Both forms, against all pairs of positions at once in float64; and the gradient through the cache."""
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
    cache = [jnp.pad(x.swapaxes(0, 1), ((0, 0), (0, 56), (0, 0))) for x in (k, v)]
    flat = jax.jit(lambda q: causal_attention(q, k, v, first, kind, window))
    cached = jax.jit(lambda q: cached_attention(q, *cache, jnp.int32(0), jnp.asarray(first), kind, window))
    np.testing.assert_allclose(flat(q), expected, atol=4e-6)
    np.testing.assert_allclose(cached(q), expected, atol=4e-6)


def test_transformer_parameter_count_is_the_formula():
    width, layers, hidden = 16, 2, 64
    block = 4 * width + (width + 1) * 3 * width + (width + 1) * width + (width + 1) * hidden + (hidden + 1) * width
    backbone = layers * block + 2 * width + CAPACITY * width
    ends = (TOKEN + 1) * width + (width + 1) * ACTIONS
    assert build(("transformer", (("num_layers", 2),))).num_parameters == backbone + ends
