"""Laws of every sequence model: one call, three forms that agree, no leak between past, future, episodes and rows.

What is compared is compiled in three programs a model, as compiling is what these tests cost: ``forms`` (all forms in
float32), ``rows`` (many sequences at once, for what must hold bit by bit) and ``gradients`` (all forms in float64).
"""

import importlib.util
import sys
from functools import cache, partial

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from siblings import SIBLINGS, by_day

from icrl.core.registry import models
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.models.layers import attention, recurrence
from icrl.models.layers.attention import cached_attention, causal_attention, empty_cache, written
from icrl.models.layers.self_attention import Place, SelfAttention

TOKEN, ACTIONS, CAPACITY = 8, 5, 320
PIECE = 43  # steps of a sequence that is read in pieces: odd, and no divisor or multiple of a model's own chunks
LENGTH = 7 * PIECE  # longer than all the chunks that models work in on a CPU
ROWS, ROW = 256, 127
TOLERANCE, TOLERANCE_64 = 1e-5, 1e-10  # of the largest value
VARIANTS = {  # settings tried beside the defaults
    "transformer": [
        {"num_layers": 2},
        {"norm": "rms", "positions": "rotary", "mlp": "swiglu", "final_norm": False},
        {"attention": "relu", "attention_bias": False, "norm_first": False, "positions": "sinusoidal"},
        {"num_heads": 1, "positions": "none", "attention_window": 50},
    ],
    "hybrid": [{"num_layers": 2, "recurrent": "gru"}],
    "s5": [{"num_layers": 2}, {"discretisation": "bilinear", "conj_sym": False}],
}
OPTIONS = {"xla_backend_optimization_level": 0}  # compiles faster; what is computed is the same


def cases() -> list:
    """Every registered model, with its variants."""
    return [
        as_case((name, tuple(settings.items())), "-".join([name, *map(str, settings.values())]))
        for name in models
        for settings in VARIANTS.get(name, [{}])
    ]


def as_case(value: tuple, title: str, day: bool = True):
    return pytest.param(value, id=title, marks=() if day and title not in SIBLINGS else pytest.mark.nightly)


CASES = cases()
compiled = partial(jax.jit, compiler_options=OPTIONS)


def new_policy(name: str, settings: dict, capacity: int) -> TokenPolicy:
    config = models[name].Config(**{"width": 16, "num_layers": 1, "init_std": 0.3, **settings})
    rngs = nnx.Rngs(0)
    return TokenPolicy(TOKEN, ACTIONS, models[name](config, capacity, rngs), 0.3, rngs)


@cache
def build(case: tuple) -> Policy:
    """The policy of a case, with no parameter left at the value 0 or 1 that many begin with."""
    policy = Policy.split(new_policy(case[0], dict(case[1]), CAPACITY))
    leaves, tree = jax.tree.flatten(policy.params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return policy.replace(params=tree.unflatten(moved))


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
    """PIECE steps at a time; the memory passes from piece to piece."""

    def read(carry, item):
        y, carry = policy(*item, carry)
        return carry, y

    pieces = jax.tree.map(lambda a: a.reshape(-1, PIECE, *a.shape[1:]), (x, start))
    return jax.lax.scan(read, empty_past(policy, x), pieces)[1].reshape(len(x), -1)


FORMS = {"parallel": parallel, "stepwise": stepwise, "in pieces": in_pieces}


@compiled
def forms(policy, x, start):
    """Outputs of every form, and those of the shortest sequences, the first of them without starts."""
    found = {name: form(policy, x, start) for name, form in FORMS.items()}
    return found | {"one": parallel(policy, x[:1], None), "two": parallel(policy, x[:2], start[:2])}


@compiled
def rows(policy, x, start):
    """Outputs [ROWS, ROW, K] of many sequences at once."""
    return jax.vmap(parallel, in_axes=(None, 0, 0))(policy, x, start)


@partial(compiled, static_argnames="names")
def gradients(policy, x, start, names: tuple[str, ...]):
    """By form: gradients of a random weighted sum of the outputs by parameters and tokens; and the outputs."""
    weights = jax.random.normal(jax.random.key(3), (len(x), ACTIONS), x.dtype)

    def weighted(params, x, name):
        y = FORMS[name](policy.replace(params=params), x, start)
        return jnp.sum(weights * y), y

    return {name: jax.grad(weighted, argnums=(0, 1), has_aux=True)(policy.params, x, name) for name in names}


def assert_close(found, expected, tolerance=TOLERANCE, what=""):
    worst = float(jnp.abs(found - expected).max()) / float(jnp.abs(expected).max())
    assert worst <= tolerance, f"{what}: off by {worst:.1e} of the largest value"


def assert_same_tree(found, expected, tolerance, what):
    pairs = zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, a), b in pairs:
        assert_close(a, b, tolerance, what + jax.tree_util.keystr(path))


def random_rows(seed: int):
    """Tokens [ROWS, ROW, D] and starts [ROWS, ROW]."""
    return jax.vmap(lambda key: tokens_and_starts(ROW, key))(jax.random.split(jax.random.key(seed), ROWS))


def where_rows(mask, this, other):
    """Rows of tokens and starts: those of ``this`` where the mask [ROWS, T] holds, else of ``other``."""
    return jnp.where(mask[..., None], this[0], other[0]), jnp.where(mask, this[1], other[1])


def check_gradients(case, names):
    policy = build(case)  # kept for other tests: to be made in float32
    with jax.enable_x64(True):
        found = gradients(widened(policy), *widened(tokens_and_starts()), names)
        for name in names:
            assert_same_tree(found[name], found["parallel"], TOLERANCE_64, name)
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(found["parallel"])]
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in leaves)


@pytest.mark.parametrize("case", CASES)
class TestLaws:
    def test_all_forms_agree(self, case):
        found = forms(build(case), *tokens_and_starts())
        for what, y in found.items():
            assert_close(y, found["parallel"][: len(y)], what=what)

    def test_the_past_does_not_see_the_future(self, case):
        policy, these = build(case), random_rows(0)
        before, time = rows(policy, *these), jnp.arange(ROW)[None]
        for seed in range(1, 3):  # 512 pairs
            cut = jax.random.randint(jax.random.key(seed), (ROWS, 1), 1, ROW)
            after = rows(policy, *where_rows(time < cut, these, random_rows(seed)))
            assert float(jnp.abs(jnp.where((time < cut)[..., None], after - before, 0.0)).max()) == 0.0
            assert bool(jnp.any(after[:, -1] != before[:, -1], axis=-1).all())  # the swap reached the model at all

    def test_nothing_passes_over_a_start(self, case):
        policy, (x, start) = build(case), random_rows(0)
        time, cut = jnp.arange(ROW)[None], jax.random.randint(jax.random.key(7), (ROWS, 1), 1, ROW)
        start = start | (time == cut)
        found = rows(policy, x, start)
        other = rows(policy, *where_rows(time >= cut, (x, start), random_rows(1)))
        assert float(jnp.abs(jnp.where((time >= cut)[..., None], found - other, 0.0)).max()) == 0.0
        shifted = (time + cut) % ROW
        fresh = rows(policy, jnp.take_along_axis(x, shifted[..., None], 1), jnp.take_along_axis(start, shifted, 1))
        found = jnp.take_along_axis(found, shifted[..., None], 1)
        assert_close(*(jnp.where((time + cut < ROW)[..., None], y, 0.0) for y in (fresh, found)))

    def test_rows_of_a_batch_do_not_meet(self, case):
        policy, (x, start), (x_0, start_0) = build(case), random_rows(0), tokens_and_starts()
        x, start = x.at[0].set(x_0[:ROW]), start.at[0].set(start_0[:ROW])
        kept = jnp.arange(ROWS)[:, None] % 8 == 0
        others = rows(policy, *where_rows(jnp.broadcast_to(kept, start.shape), (x, start), random_rows(1)))
        found = rows(policy, x, start)
        assert float(jnp.abs(jnp.where(kept[..., None], found - others, 0.0)).max()) == 0.0
        assert_close(found[0], forms(policy, x_0, start_0)["parallel"][:ROW])  # alone

    def test_a_step_is_compiled_once(self, case):
        """The memory comes out of a step as it went in: shapes, types, and weak types."""
        policy, (x, start) = build(case), tokens_and_starts(1)
        carry = jax.eval_shape(lambda policy: policy.initial_carry(), policy)
        assert jax.eval_shape(lambda policy, carry: policy(x, start, carry)[1], policy, carry) == carry


@pytest.mark.parametrize("case", CASES)
def test_the_associative_form_agrees(case, monkeypatch):
    """Of the models that have one: what runs on an accelerator."""
    policy, (x, start), called = build(case), tokens_and_starts(), []
    associative = recurrence.DiagonalRecurrence._associative
    monkeypatch.setattr(recurrence, "METHOD", "associative")
    monkeypatch.setattr(recurrence, "WIDE_CHUNK", 128)
    monkeypatch.setattr(
        recurrence.DiagonalRecurrence, "_associative", lambda *args: called.append(1) or associative(*args)
    )
    lowered = compiled(partial(parallel)).lower(policy, x, start)
    if not called:
        pytest.skip("has no associative form")
    monkeypatch.undo()
    assert_close(lowered.compile()(policy, x, start), forms(policy, x, start)["parallel"])


def equations(jaxpr):
    """All equations of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)


# what may have a result in bfloat16: rounding itself, products, and what only moves numbers
MOVED = {"reshape", "transpose", "slice", "dynamic_slice", "squeeze", "broadcast_in_dim", "pad", "jit"}
IN_BFLOAT16 = {"convert_element_type", "dot_general", *MOVED}


@pytest.mark.parametrize("name", models)
@pytest.mark.parametrize("form", ["parallel", "step"])
def test_bfloat16_is_for_matrix_products_alone(name, form):
    policy = jax.eval_shape(lambda: Policy.split(new_policy(name, {"matmuls": "bfloat16"}, CAPACITY)))
    x, start = tokens_and_starts(2)
    carry = jax.eval_shape(lambda policy: policy.initial_carry(), policy) if form == "step" else None
    found = list(equations(jax.make_jaxpr(lambda policy, *inputs: policy(*inputs))(policy, x, start, carry).jaxpr))
    low = {each.primitive.name for each in found if any(v.aval.dtype == jnp.bfloat16 for v in each.outvars)}
    assert {"convert_element_type", "dot_general"} <= low <= IN_BFLOAT16
    outcome = jax.eval_shape(lambda policy, *inputs: policy(*inputs), policy, x, start, carry)
    assert all(leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(outcome))


def test_products_are_as_exact_as_asked_for():
    """Whatever the platform likes: a GPU would multiply float32 with 10 bits of mantissa."""
    x, start = tokens_and_starts(2)
    for matmuls, coarse in (("float32", False), ("tensorfloat32", True)):
        policy = Policy.split(new_policy("transformer", {"matmuls": matmuls}, CAPACITY))
        found = equations(jax.make_jaxpr(policy)(x, start, policy.initial_carry()).jaxpr)
        asked = [each.params["precision"] for each in found if each.primitive.name == "dot_general"]
        exact = [precision == (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST) for precision in asked]
        assert any(exact) and all(exact) != coarse


def test_policies_that_differ_in_their_numbers_alone_share_their_code():
    one, other, wider = (
        Policy.split(new_policy("gru", {"width": width}, CAPACITY)).structure for width in (16, 16, 24)
    )
    assert one is not other and one == other and hash(one) == hash(other) and one != wider


@pytest.mark.parametrize("name", [by_day(name, day=name in ("transformer", "s5", "mamba2")) for name in models])
def test_bfloat16_is_near_float32(name):
    x, start = tokens_and_starts(40)
    exact, low = (Policy.split(new_policy(name, {"matmuls": form}, CAPACITY)) for form in ("float32", "bfloat16"))
    read = compiled(lambda policy, carry: policy(x, start, carry)[0])
    expected, found, stepped = read(exact, None), read(low, None), read(low, low.initial_carry())
    size = jnp.max(jnp.abs(expected))
    assert 0 < jnp.max(jnp.abs(found - expected)) < 0.05 * size
    assert jnp.max(jnp.abs(found - stepped)) < 0.05 * size
    slopes = compiled(jax.grad(lambda policy: jnp.mean(policy(x, start)[0] ** 2)))
    for coarse, fine in zip(*map(jax.tree.leaves, (slopes(low), slopes(exact))), strict=True):
        assert jnp.linalg.norm(coarse - fine) <= 0.1 * jnp.linalg.norm(fine) + 1e-6


TOY = """
import jax
import jax.numpy as jnp

from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig
from icrl.core.registry import models


class {cls}Mixer(Mixer):
    def __init__(self, config, rngs):
        self.width = config.width

    def initial_carry(self):
        return jnp.zeros(self.width)

    def __call__(self, u, start, carry):
        {body}


@models.register("{name}", paper="-")
class {cls}(ResidualStack):
    Config = StackConfig
    Mixer = {cls}Mixer
"""
HONEST = """
        def step(h, item):
            h = jnp.where(item[1], 0, 0.9 * h) + item[0]
            return h, h

        carry, y = jax.lax.scan(step, carry, (u, start))
        return y, carry"""
PROPHET = "return u - u.mean(axis=0, keepdims=True), carry"


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """Two model files more in the folder of the models, and gone afterwards: one in order, one that sees the future."""
    for name, cls, body in (("toy-fading", "Fading", HONEST), ("toy-prophet", "Prophet", PROPHET)):
        (tmp_path / f"{cls.lower()}.py").write_text(TOY.format(name=name, cls=cls, body=body))
    folder = importlib.util.find_spec("icrl.models").submodule_search_locations
    before = set(sys.modules)
    folder.append(str(tmp_path))
    monkeypatch.setattr(models, "_entries", dict(models._entries))
    monkeypatch.setattr(models, "_discovered", False)
    yield
    folder.remove(str(tmp_path))
    for name in {"icrl.models.fading", "icrl.models.prophet"} & (set(sys.modules) - before):
        del sys.modules[name]


def test_a_new_file_is_held_to_the_laws(toys):
    known = {case.id: case.values[0] for case in CASES}
    new = {case.id: case.values[0] for case in cases() if case.id not in known}
    assert set(new) == {"toy-fading", "toy-prophet"}
    TestLaws().test_the_past_does_not_see_the_future(new["toy-fading"])
    TestLaws().test_nothing_passes_over_a_start(new["toy-fading"])
    with pytest.raises(AssertionError):
        TestLaws().test_the_past_does_not_see_the_future(new["toy-prophet"])
    with pytest.raises(AssertionError):
        TestLaws().test_nothing_passes_over_a_start(new["toy-prophet"])


def test_the_toys_are_gone():
    assert [case.id for case in cases()] == [case.id for case in CASES]


# Attention with a gated recurrence, a diagonal recurrence, and one that is read in chunks.
MECHANISMS = ("deltanet", "hybrid-2-gru", "s5-2")


@pytest.mark.parametrize("case", [as_case(*each.values, each.id, each.id in MECHANISMS) for each in CASES])
def test_forms_and_their_gradients_agree_in_float64(case):
    check_gradients(case, ("parallel", "in pieces"))


@pytest.mark.nightly
@pytest.mark.parametrize("case", CASES)
class TestLongLaws:
    def test_long_sequences_in_every_form(self, case):
        name, settings = case
        policy = Policy.split(new_policy(name, dict(settings), 47 * PIECE + 48))
        x, start = tokens_and_starts(47 * PIECE)
        for what, form in FORMS.items():
            assert_close(compiled(form)(policy, x, start), compiled(parallel)(policy, x, start), what=what)

    def test_gradients_of_every_form_in_float64(self, case):
        check_gradients(case, tuple(FORMS))

    def test_a_memory_cut_anywhere(self, case):
        """Pieces of any size: 1, then 2, then the rest in three parts."""
        policy, (x, start) = build(case), tokens_and_starts()
        carry, found = policy.initial_carry(), []
        for low, high in ((0, 1), (1, 3), (3, 66), (66, 200), (200, LENGTH)):
            y, carry = compiled(lambda *args: policy(*args))(x[low:high], start[low:high], carry)
            found.append(y)
        assert_close(jnp.concatenate(found), forms(policy, x, start)["parallel"])


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
    cache = written(empty_cache(250, 2, 4), k, v, jnp.int32(0))
    flat = jax.jit(lambda q: causal_attention(q, k, v, first, kind, window))
    cached = jax.jit(lambda q, at, first: cached_attention(q, cache, at, first, kind, window))
    np.testing.assert_allclose(flat(q), expected, atol=4e-6)
    np.testing.assert_allclose(cached(q, 0, first), expected, atol=4e-6)
    lows = np.arange(0, 200, 40)  # few at a time; what stands in later slots is not seen
    few = lows[:, None] + np.arange(4)
    for low, now in zip(lows, few, strict=True):
        np.testing.assert_allclose(cached(q[now], low, first[now]), expected[now], atol=4e-6)
    np.testing.assert_allclose(jax.vmap(cached)(q[few], lows, first[few]), expected[few], atol=4e-6)


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


def test_transformer_parameter_count_is_the_formula():
    width, layers, hidden = 16, 2, 64
    block = 4 * width + (width + 1) * 3 * width + (width + 1) * width + (width + 1) * hidden + (hidden + 1) * width
    backbone = layers * block + 2 * width + CAPACITY * width
    ends = (TOKEN + 1) * width + (width + 1) * ACTIONS
    assert build(("transformer", (("num_layers", 2),))).num_parameters == backbone + ends
