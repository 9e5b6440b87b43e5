"""What a law is: a function of the thing that it is about, which raises one line when it does not hold."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import InputError, shortened, shown
from icrl.core.registry import Registry

GATE = 4.3  # standard errors, 2e-5 two-sided; seeds are fixed, so that nothing flakes
CLOSE = 1e-5  # of floats that two programs compute in another order

Law = TypeVar("Law", bound=Callable[..., None])


class BrokenLawError(InputError, AssertionError):
    """A thing does not do what all of its kind do; to be corrected by whoever wrote it."""


class _Fault(Exception):
    """What ``expect`` found, before it is known whose it is."""


class Subject(NamedTuple):
    """A thing under a name, for laws of what is no object of a class of its own."""

    title: str
    thing: Any


def law(check: Law) -> Law:
    """Make ``check``, whose first argument is the subject, raise a ``BrokenLawError`` that names both."""

    @functools.wraps(check)
    def checked(subject: Any, *args: Any, **settings: Any) -> None:
        words = check.__name__.replace("_", " ")
        try:
            check(subject, *args, **settings)
        except BrokenLawError:
            raise
        except _Fault as fault:
            raise BrokenLawError(f"{title_of(subject)} breaks the law {words!r}: {fault}") from None
        except Exception as error:  # of the code under test, whatever it is
            reason = shortened(" ".join(str(error).split()))
            line = f"{title_of(subject)} breaks the law {words!r}: {type(error).__name__}: {reason}"
            raise BrokenLawError(line) from error

    return checked  # type: ignore[return-value]


def expect(holds: Any, what: str, found: Any, right: str) -> None:
    """Raise unless ``holds``: ``what`` is ``found`` where something else is ``right``."""
    if not bool(holds):
        found = found.tolist() if isinstance(found, (np.ndarray, np.generic, jax.Array)) and found.size < 20 else found
        raise _Fault(f"{what}: got {found if isinstance(found, str) else shown(found)}, right: {right}")


def expect_same(found: Any, wanted: Any, what: str, right: str, tolerance: float = CLOSE) -> None:
    """Raise unless both pytrees have one form and the same leaves, floats within ``tolerance``."""
    forms: list[Any] = [jax.tree.structure(found), jax.tree.structure(wanted)]
    expect(forms[0] == forms[1], what, str(forms[0]), f"{right}: {forms[1]}")
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        where = what + jax.tree_util.keystr(path)
        expect((a.dtype, a.shape) == (b.dtype, b.shape), where, form_of(a), f"{right}: {form_of(b)}")
        a, b = as_numbers(a), as_numbers(b)
        exact = not jnp.issubdtype(a.dtype, jnp.floating)
        same = np.array_equal(a, b) if exact else np.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True)
        expect(same, where, a, f"{right}: {np.asarray(b).tolist() if b.size < 20 else 'other numbers'}")


def as_numbers(leaf: Any) -> np.ndarray:
    """An array that NumPy can compare; of typed keys their data."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def form_of(leaf: Any) -> str:
    """Dtype and shape in words."""
    return f"{leaf.dtype} of shape {leaf.shape}"


def title_of(subject: Any) -> str:
    """Module and class of the subject, or the title that it goes by."""
    if isinstance(title := getattr(subject, "title", None), str):
        return title
    return f"{type(subject).__module__}.{type(subject).__qualname__}"


def is_foreign(thing: Any) -> bool:
    """Whether the class of ``thing`` is not ours: ours are held to the laws by tests."""
    cls = thing if isinstance(thing, type) else type(thing)
    return not f"{cls.__module__}.".startswith("icrl.")


def made(registry: Registry, thing: Any) -> Any:
    """A registered name, or a class, with its default settings; anything else as it is."""
    if isinstance(thing, str):
        return registry.make(thing)
    return thing() if isinstance(thing, type) else thing
