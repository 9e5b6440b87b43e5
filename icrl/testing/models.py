"""Laws of sequence models: one call, three forms that agree, no leak between past, future, episodes and rows.

What is compared is compiled in three programs a model, as compiling is what checks cost: ``forms`` (all forms in
float32), ``rows`` (many sequences at once, for what must hold bit by bit) and ``gradients`` (all forms in float64).
The subject of a law is a title and a ``Policy`` around the model.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from icrl.core.errors import InputError
from icrl.core.model_types import HIDDEN, ModelConfig, SequenceModel
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.testing._law import Subject, expect, law

TOKEN, ACTIONS = 8, 5
PIECE = 45  # steps of a sequence that is read in pieces: odd, and no divisor or multiple of a model's own chunks
LENGTH = CAPACITY = 7 * PIECE  # longer than all the chunks that models work in on a CPU
ROWS, ROW = 256, 127
TOLERANCE, TOLERANCE_64 = 1e-5, 1e-10  # of the largest value
SMALL = {"width": 16, "num_layers": 1, "init_std": 0.3}
OPTIONS = {"xla_backend_optimization_level": 0}  # compiles faster; what is computed is the same

compiled = partial(jax.jit, compiler_options=OPTIONS)


def check_model(model: str | type[SequenceModel] | ModelConfig, **settings: Any) -> None:
    """Raise ``BrokenLawError`` for the first law of sequence models that ``model`` does not obey.

    Args:
      model: a registered name, a class, or the settings of a registered model that has a ``Config`` of its own.
      settings: of its ``Config``, besides those of a small one.
    """
    cls, config = _class_and_config(model, settings)
    policy = perturbed(policy_of(cls, config, CAPACITY))
    subject = Subject(f"{cls.__module__}.{cls.__qualname__}", policy)
    for each in LAWS:
        each(subject)


def check_form(cls: type[SequenceModel]) -> None:
    """Raise ``BrokenLawError`` unless a model can be stepped at all; traced, not run."""
    it_can_be_stepped(Subject(f"{cls.__module__}.{cls.__qualname__}", cls))


def _class_and_config(model: Any, settings: dict[str, Any]) -> tuple[type[SequenceModel], ModelConfig]:
    if isinstance(model, ModelConfig):
        fitting = [name for name in models if models[name].Config is type(model)]
        if len(fitting) != 1:
            found = f"{type(model).__name__}, the settings of {' and '.join(fitting) or 'no registered model'}"
            raise InputError(f"model: got {found}, allowed: those of one; or the model's name or class, and settings")
        return models[fitting[0]], model
    cls = models[model] if isinstance(model, str) else model
    if not (isinstance(cls, type) and issubclass(cls, SequenceModel)):
        raise InputError(f"model: got {model!r}, allowed: a registered name, a class of models, or its settings")
    return cls, cls.Config(**{**SMALL, **settings})


def policy_of(cls: type[SequenceModel], config: ModelConfig, capacity: int) -> TokenPolicy:
    """A new model between an embedding of ``TOKEN`` features and a head of ``ACTIONS`` logits."""
    rngs = nnx.Rngs(0)
    return TokenPolicy(TOKEN, ACTIONS, cls(config, capacity, rngs), 0.3, rngs)  # type: ignore[call-arg]


def perturbed(policy: TokenPolicy) -> Policy:
    """The policy with no parameter left at the value 0 or 1 that many begin with."""
    split = Policy.split(policy)
    leaves, tree = jax.tree.flatten(split.params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return split.replace(params=tree.unflatten(moved))  # type: ignore[attr-defined, no-any-return]


def tokens_and_starts(length: int = LENGTH, key: Array | None = None) -> tuple[Array, Array]:
    """Random tokens, and starts at about one step in twenty."""
    key_x, key_start = jax.random.split(jax.random.key(1) if key is None else key)
    return jax.random.normal(key_x, (length, TOKEN)), jax.random.bernoulli(key_start, 0.05, (length,))


def widened(tree: Any) -> Any:
    """Real numbers in float64 and complex ones in complex128; integers stay."""
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, np.float64)) if _is_inexact(x) else x, tree)


def _is_inexact(x: Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.inexact))


def _empty_past(policy: Policy, x: Array) -> Any:
    return widened(policy.initial_carry()) if x.dtype == jnp.float64 else policy.initial_carry()


def parallel(policy: Policy, x: Array, start: Array | None) -> Array:
    """All steps at once, as in training."""
    return policy(x, start)[0]


def stepwise(policy: Policy, x: Array, start: Array) -> Array:
    """One step at a time, as in acting; behind ``HIDDEN`` others, which the first start hides and take no room."""
    hidden = jax.random.normal(jax.random.key(4), (HIDDEN, x.shape[1]), x.dtype)
    x = jnp.concatenate([hidden, x])
    start = jnp.concatenate([jnp.zeros(HIDDEN, bool), start.at[0].set(True)])

    def step(carry: Any, item: Any) -> tuple[Any, Array]:
        y, carry = policy(item[0][None], item[1][None], carry)
        return carry, y[0]

    return jax.lax.scan(step, _empty_past(policy, x), (x, start))[1][HIDDEN:]


def in_pieces(policy: Any, x: Array, start: Array) -> Array:
    """PIECE steps at a time; the memory passes from piece to piece."""

    def read(carry: Any, item: Any) -> tuple[Any, Array]:
        y, carry = policy(*item, carry)
        return carry, y

    pieces = jax.tree.map(lambda a: a.reshape(-1, PIECE, *a.shape[1:]), (x, start))
    return jax.lax.scan(read, _empty_past(policy, x), pieces)[1].reshape(len(x), -1)


FORMS = {"parallel": parallel, "stepwise": stepwise, "in pieces": in_pieces}


@compiled
def forms(policy: Policy, x: Array, start: Array) -> dict[str, Array]:
    """Outputs of every form, and those of the shortest sequences, the first of them without starts."""
    found = {name: form(policy, x, start) for name, form in FORMS.items()}
    return found | {"one": parallel(policy, x[:1], None), "two": parallel(policy, x[:2], start[:2])}


@compiled
def rows(policy: Policy, x: Array, start: Array) -> Array:
    """Outputs [ROWS, ROW, K] of many sequences at once."""
    return jax.vmap(parallel, in_axes=(None, 0, 0))(policy, x, start)


@partial(compiled, static_argnames="names")
def gradients(policy: Policy, x: Array, start: Array, names: tuple[str, ...]) -> dict[str, Any]:
    """By form: gradients of a random weighted sum of the outputs by parameters and tokens; and the outputs."""
    weights = jax.random.normal(jax.random.key(3), (len(x), ACTIONS), x.dtype)

    def weighted(params: Any, x: Array, name: str) -> tuple[Array, Array]:
        y = FORMS[name](policy.replace(params=params), x, start)  # type: ignore[attr-defined]
        return jnp.sum(weights * y), y

    return {name: jax.grad(weighted, argnums=(0, 1), has_aux=True)(policy.params, x, name) for name in names}


def expect_close(found: Array, wanted: Array, what: str, right: str, tolerance: float = TOLERANCE) -> None:
    """Raise unless both differ by at most ``tolerance`` of the largest value."""
    worst = float(jnp.abs(found - wanted).max()) / float(jnp.abs(wanted).max())
    expect(worst <= tolerance, what, f"off by {worst:.1e} of the largest value", f"{right}, within {tolerance:.0e}")


def random_rows(seed: int) -> tuple[Array, Array]:
    """Tokens [ROWS, ROW, D] and starts [ROWS, ROW]."""
    return jax.vmap(lambda key: tokens_and_starts(ROW, key))(jax.random.split(jax.random.key(seed), ROWS))


def where_rows(mask: Array, this: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
    """Rows of tokens and starts: those of ``this`` where the mask [ROWS, T] holds, else of ``other``."""
    return jnp.where(mask[..., None], this[0], other[0]), jnp.where(mask, this[1], other[1])


def _expect_untouched(mask: Array, found: Array, wanted: Array, what: str, right: str) -> None:
    worst = float(jnp.abs(jnp.where(mask[..., None], found - wanted, 0.0)).max())
    expect(worst == 0.0, what, f"changed by up to {worst:.1e}", right)


@law
def all_forms_agree(subject: Subject) -> None:
    """At once, step by step and in pieces; sequences of one and two steps."""
    found = forms(subject.thing, *tokens_and_starts())
    for what, y in found.items():
        expect_close(y, found["parallel"][: len(y)], f"output of the form {what!r}", "that of all steps at once")


@law
def the_past_does_not_see_the_future(subject: Subject) -> None:
    """512 pairs of sequences that differ from some step on."""
    these = random_rows(0)
    before, time = rows(subject.thing, *these), jnp.arange(ROW)[None]
    for seed in range(1, 3):
        cut = jax.random.randint(jax.random.key(seed), (ROWS, 1), 1, ROW)
        after = rows(subject.thing, *where_rows(time < cut, these, random_rows(seed)))
        _expect_untouched(time < cut, after, before, "outputs before the tokens that were changed", "not at all")
        reached = bool(jnp.any(after[:, -1] != before[:, -1], axis=-1).all())
        expect(reached, "last outputs", "those of before", "others: they see the tokens that were changed")


@law
def nothing_passes_over_a_start(subject: Subject) -> None:
    """What follows a start is what a sequence that begins there gives."""
    policy, (x, start) = subject.thing, random_rows(0)
    time, cut = jnp.arange(ROW)[None], jax.random.randint(jax.random.key(7), (ROWS, 1), 1, ROW)
    start = start | (time == cut)
    found = rows(policy, x, start)
    other = rows(policy, *where_rows(time >= cut, (x, start), random_rows(1)))
    _expect_untouched(time >= cut, found, other, "outputs behind a start, with another past", "not at all")
    shifted = (time + cut) % ROW
    fresh = rows(policy, jnp.take_along_axis(x, shifted[..., None], 1), jnp.take_along_axis(start, shifted, 1))
    found = jnp.take_along_axis(found, shifted[..., None], 1)
    behind = (time + cut < ROW)[..., None]
    fresh, found = (jnp.where(behind, y, 0.0) for y in (fresh, found))
    expect_close(fresh, found, "outputs behind a start", "those of a sequence that begins there")


@law
def rows_of_a_batch_do_not_meet(subject: Subject) -> None:
    """One row among others is that row alone."""
    policy, (x, start), (x_0, start_0) = subject.thing, random_rows(0), tokens_and_starts()
    x, start = x.at[0].set(x_0[:ROW]), start.at[0].set(start_0[:ROW])
    kept = jnp.arange(ROWS)[:, None] % 8 == 0
    others = rows(policy, *where_rows(jnp.broadcast_to(kept, start.shape), (x, start), random_rows(1)))
    found = rows(policy, x, start)
    _expect_untouched(kept, found, others, "outputs of rows, with other rows beside them", "not at all")
    expect_close(found[0], forms(policy, x_0, start_0)["parallel"][:ROW], "a row among others", "the row alone")


@law
def a_step_is_compiled_once(subject: Subject) -> None:
    """The memory comes out of a step as it went in: shapes, types, and weak types."""
    policy, (x, start) = subject.thing, tokens_and_starts(1)
    carry = jax.eval_shape(lambda policy: policy.initial_carry(), policy)
    after = jax.eval_shape(lambda policy, carry: policy(x, start, carry)[1], policy, carry)
    expect(after == carry, "memory after a step", str(after), f"{carry}, as initial_carry")


@law
def gradients_of_the_forms_agree(subject: Subject, names: tuple[str, ...] = ("parallel", "in pieces")) -> None:
    """By parameters and tokens, in float64; finite, and none is zero throughout."""
    with jax.enable_x64(True):
        found = gradients(widened(subject.thing), *widened(tokens_and_starts()), names)
        for name in names:
            pairs = zip(jax.tree.leaves_with_path(found[name]), jax.tree.leaves(found["parallel"]), strict=True)
            for (path, a), b in pairs:
                what = f"gradient of the form {name!r}{jax.tree_util.keystr(path)}"
                expect_close(a, b, what, "that of all steps at once", TOLERANCE_64)
        leaves = [
            (jax.tree_util.keystr(path), np.asarray(leaf))
            for path, leaf in jax.tree.leaves_with_path(found["parallel"])
        ]
    for name, leaf in leaves:
        expect(np.isfinite(leaf).all() and leaf.any(), f"gradient{name}", leaf, "finite, somewhere not 0")


@law
def it_can_be_stepped(subject: Subject) -> None:
    """A small one is made, and its memory keeps its form."""
    cls = subject.thing
    policy = jax.eval_shape(lambda: Policy.split(policy_of(cls, cls.Config(**SMALL), CAPACITY)))
    a_step_is_compiled_once(Subject(subject.title, policy))


LAWS = (
    a_step_is_compiled_once,
    all_forms_agree,
    the_past_does_not_see_the_future,
    nothing_passes_over_a_start,
    rows_of_a_batch_do_not_meet,
    gradients_of_the_forms_agree,
)
