"""Every sequence model, in some variants, under the laws of ``icrl.testing``; and what is ours: products, depth."""

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
from icrl.models.layers import depth, recurrence
from icrl.testing import BrokenLawError
from icrl.testing import models as laws
from icrl.testing._law import Subject
from icrl.testing.models import (
    ACTIONS,
    CAPACITY,
    FORMS,
    LENGTH,
    PIECE,
    SMALL,
    TOKEN,
    TOLERANCE,
    compiled,
    forms,
    parallel,
    perturbed,
    policy_of,
    tokens_and_starts,
)

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


def new_policy(name: str, settings: dict, capacity: int) -> TokenPolicy:
    return policy_of(models[name], models[name].Config(**{**SMALL, **settings}), capacity)


@cache
def build(case: tuple) -> Policy:
    return perturbed(new_policy(case[0], dict(case[1]), CAPACITY))


def subject_of(case: tuple) -> Subject:
    return Subject(case[0], build(case))


def assert_close(found, expected, what=""):
    worst = float(jnp.abs(found - expected).max()) / float(jnp.abs(expected).max())
    assert worst <= TOLERANCE, f"{what}: off by {worst:.1e} of the largest value"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", laws.LAWS[:-1], ids=lambda law: law.__name__)
def test_law(case, check):
    check(subject_of(case))


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
    for check in (laws.the_past_does_not_see_the_future, laws.nothing_passes_over_a_start):
        check(subject_of(new["toy-fading"]))
        with pytest.raises(BrokenLawError, match=r"^toy-prophet breaks the law '.*': outputs be.*, right: not at all"):
            check(subject_of(new["toy-prophet"]))


def test_the_toys_are_gone():
    assert [case.id for case in cases()] == [case.id for case in CASES]


# Attention with a gated recurrence, a diagonal recurrence, and one that is read in chunks.
MECHANISMS = ("deltanet", "hybrid-2-gru", "s5-2")


@pytest.mark.parametrize("case", [as_case(*each.values, each.id, each.id in MECHANISMS) for each in CASES])
def test_forms_and_their_gradients_agree_in_float64(case):
    laws.gradients_of_the_forms_agree(subject_of(case))


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
        laws.gradients_of_the_forms_agree(subject_of(case), tuple(FORMS))

    def test_a_memory_cut_anywhere(self, case):
        """Pieces of any size: 1, then 2, then the rest in three parts."""
        policy, (x, start) = build(case), tokens_and_starts()
        carry, found = policy.initial_carry(), []
        for low, high in ((0, 1), (1, 3), (3, 66), (66, 200), (200, LENGTH)):
            y, carry = compiled(lambda *args: policy(*args))(x[low:high], start[low:high], carry)
            found.append(y)
        assert_close(jnp.concatenate(found), forms(policy, x, start)["parallel"])


@pytest.mark.parametrize("name", [as_case(name, name, day=name in ("transformer", "s5")) for name in models])
def test_layers_in_a_scan_are_those_written_out(name, monkeypatch):
    """Values and gradients in float64; runs of one kind alone are scanned."""
    with jax.enable_x64(True):
        policy = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), perturbed(new_policy(name, {"num_layers": 3}, 12)))
        tokens = jax.random.normal(jax.random.key(1), (12, TOKEN), jnp.float64)
        start = jnp.arange(12) % 5 == 0

        def found(policy):
            return jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.sin(p(tokens, start)[0])), allow_int=True))(policy)

        written_out = found(policy)
        monkeypatch.setattr(depth, "WRITTEN_OUT", 1)
        jax.clear_caches()
        program = jax.jit(lambda p: p(tokens, start)[0]).lower(policy).as_text()
        assert ("stablehlo.while" in program) or name == "hybrid"
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), found(policy), written_out)


@pytest.mark.parametrize("name", ["transformer", "s5"])
def test_the_program_does_not_grow_with_depth(name):
    def lines(layers):
        policy = new_policy(name, {"num_layers": layers}, 12)
        graph, state = nnx.split(policy)
        tokens = jnp.zeros((12, TOKEN))
        program = jax.jit(jax.grad(lambda s: jnp.sum(nnx.merge(graph, s)(tokens)[0]))).lower(state).as_text()
        return sum("dot_general" in line for line in program.splitlines())

    assert lines(depth.WRITTEN_OUT + 1) == lines(2 * depth.WRITTEN_OUT) < lines(depth.WRITTEN_OUT)


def test_transformer_parameter_count_is_the_formula():
    width, layers, hidden = 16, 2, 64
    block = 4 * width + (width + 1) * 3 * width + (width + 1) * width + (width + 1) * hidden + (hidden + 1) * width
    backbone = layers * block + 2 * width + CAPACITY * width
    ends = (TOKEN + 1) * width + (width + 1) * ACTIONS
    assert build(("transformer", (("num_layers", 2),))).num_parameters == backbone + ends
