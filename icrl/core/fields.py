"""One setting in one line: its default, what is allowed, and a help text, checked in one place.

    width: int = setting(32, low=1, high=65536, help="D, features of the residual stream")

A class of settings is a frozen dataclass with ``Checked`` among its bases, as environments, agents, filters,
objectives, layouts and the configs of models have it. Its ``__post_init__`` checks all settings of the class. A rule
for several fields together goes into the class's own ``__post_init__``, after ``super().__post_init__()``.

The annotation gives the kind: ``int``, ``float``, ``bool``, ``str``, ``tuple[str, ...]``, another class, or one of
these ``| None``. Numbers are finite. A subclass that only changes the default writes ``horizon: int = 50`` and keeps
bounds and help.
"""

import dataclasses
import functools
import math
import numbers
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from icrl.core.errors import float_range, int_range, require, require_float, require_int

Bound = float | str | None


class Setting(NamedTuple):
    """What a field declares."""

    low: Bound = None  # least value; a text is the name of another field or property of the same class
    high: Bound = None  # largest value
    open_low: bool = False  # whether the least value itself is refused
    open_high: bool = False  # whether the largest value itself is refused
    choices: tuple[str, ...] = ()  # of a text
    help: str = ""  # a phrase for ``--help``
    kinds: tuple[Any, ...] = ()  # read off the annotation
    can_be_array: bool = False  # a leaf of a pytree, which may be swept or traced

    @property
    def is_relative(self) -> bool:
        """Whether a bound is the value of another field."""
        return isinstance(self.low, str) or isinstance(self.high, str)

    @property
    def allowed(self) -> str:
        """Bounds or choices in words, with the names of the fields that are bounds; empty if there are none."""
        if not self.choices and int not in self.kinds and float not in self.kinds:
            return ""
        return self._range(self.low, self.high) + (" or none" if types.NoneType in self.kinds else "")

    def bounds(self, settings: Any) -> tuple[Any, Any]:
        """Least and largest value in ``settings``; infinite where there is none, or one that is swept or traced."""
        low, high = (getattr(settings, end) if isinstance(end, str) else end for end in (self.low, self.high))
        return _number_or(-math.inf, low), _number_or(math.inf, high)

    def check(self, name: str, settings: Any) -> None:
        """Raise ``InputError`` unless the value of the field ``name`` is allowed."""
        value = getattr(settings, name)
        if (value is None and types.NoneType in self.kinds) or (self.can_be_array and _is_traced(value)):
            return
        if float in self.kinds or int in self.kinds:
            self._check_number(name, value, *self.bounds(settings))
        else:
            require(self._is_of_kind(value), name, value, self._range(None, None))

    def _range(self, low: Any, high: Any) -> str:
        if int in self.kinds:
            return int_range(low, high)
        if float in self.kinds:
            low, high = -math.inf if low is None else low, math.inf if high is None else high
            return float_range(low, high, open_low=self.open_low, open_high=self.open_high)
        if self.choices:
            return " or ".join(each for each in self.choices if each)  # an empty text means "as fits"
        return " or ".join(_words(kind) for kind in self.kinds)

    def _check_number(self, name: str, value: Any, low: Any, high: Any) -> None:
        is_array = hasattr(value, "ndim") and not isinstance(value, numbers.Number)  # NumPy's scalars are numbers
        if is_array and not self.can_be_array:  # arrays cannot be hashed, and so are no settings of static arguments
            require(False, name, value, self._range(low, high))
        if is_array and value.ndim > 0:
            self._check_array(name, value, low, high)
        elif int in self.kinds:
            require_int(name, value, low, high)
        else:
            require_float(name, value, low, high, open_low=self.open_low, open_high=self.open_high)

    def _check_array(self, name: str, value: Any, low: Any, high: Any) -> None:
        import numpy as np

        array, allowed = np.asarray(value), f"numbers, each {self._range(low, high)}"
        kinds = "iu" if int in self.kinds else "iufV"  # V: bfloat16
        require(array.dtype.kind in kinds, name, f"{array.dtype} of shape {array.shape}", allowed)
        array = array.astype(np.float64)
        inside = np.isfinite(array) & (array >= low) & (array <= high)
        inside &= ~((self.open_low & (array == low)) | (self.open_high & (array == high)))
        for wrong in array[~inside].ravel()[:1].tolist():
            require(False, name, wrong, allowed)

    def _is_of_kind(self, value: Any) -> bool:
        if self.choices:
            return isinstance(value, str) and value in self.choices
        if any(typing.get_origin(kind) is tuple for kind in self.kinds):
            return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
        return isinstance(value, tuple(kind for kind in self.kinds if isinstance(kind, type)))


def setting(
    default: Any = dataclasses.MISSING,
    *,
    low: Bound = None,
    high: Bound = None,
    open_low: bool = False,
    open_high: bool = False,
    choices: Iterable[str] = (),
    help: str = "",
    static: bool = False,
    default_factory: Callable[[], Any] | Any = dataclasses.MISSING,
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """A field with a default, what is allowed, and a help text.

    Args:
      default: its default; or ``default_factory``, which makes one.
      low: the least number, or the name of the field or property of the same class that is the least.
      high: the largest number, likewise.
      open_low: ``low`` itself is not allowed.
      open_high: ``high`` itself is not allowed.
      choices: the texts that are allowed; all texts if it is empty.
      help: what it is, in a phrase, with its unit where it has one.
      static: of a class of ``icrl.core.struct``: no leaf, but a part of the tree's structure; cannot be swept.
      metadata: of the dataclass field besides, such as ``settings.follows(...)``.
    """
    declared = Setting(low, high, open_low, open_high, tuple(choices), help)
    known = {"setting": declared, "pytree_node": not static, **(metadata or {})}
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata=known)
    return dataclasses.field(default=default, metadata=known)


def required(
    *,
    low: Bound = None,
    high: Bound = None,
    help: str = "",
    static: bool = False,
    kw_only: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """A ``setting`` that has no default (a function of its own, as type checkers tell fields apart by name)."""
    known = {"setting": Setting(low, high, help=help), "pytree_node": not static, **(metadata or {})}
    return dataclasses.field(kw_only=kw_only, metadata=known)


def lacking(cls: Any, given: Mapping[str, Any]) -> list[str]:
    """The fields of a dataclass that have no default and are not ``given``."""
    none = dataclasses.MISSING
    needed = [each for each in dataclasses.fields(cls) if each.init and each.default is each.default_factory is none]
    return [each.name for each in needed if each.name not in given]


class Checked:
    """Base of classes of settings; checks every ``setting`` on construction. Values under a trace pass unseen."""

    def __post_init__(self) -> None:
        check_settings(self)


def check_settings(settings: Any) -> None:
    """Raise ``InputError`` for the first setting that is not allowed."""
    cls: Any = type(settings)  # Any, as mypy takes a class of unknown kind for one that cannot be hashed
    for name, each in declared(cls).items():
        each.check(name, settings)


def check_array(
    name: str, value: Any, shape: tuple[int | None, ...], low: float = -math.inf, high: float = math.inf
) -> None:
    """Raise ``InputError`` unless ``value`` is an array of finite numbers in [low, high]; traced values pass.

    Its shape ends with ``shape``, where None is any length; more axes may come first, over which ``vmap`` runs.
    """
    if _is_traced(value):
        return
    words = f"an array of shape {shape}".replace("None", "N")
    require(hasattr(value, "dtype") and hasattr(value, "shape"), name, value, words)
    found = value.shape[max(len(value.shape) - len(shape), 0) :]
    fits = len(found) == len(shape) and all(a in (None, b) for a, b in zip(shape, found, strict=True))
    require(fits, name, f"shape {value.shape}", words)
    Setting(kinds=(float,))._check_array(name, value, low, high)


@functools.cache
def declared(cls: Any) -> Mapping[str, Setting]:
    """The settings of a dataclass by field name; one that a subclass only gives another default keeps its bounds.

    A field that declares nothing and holds an object of this package is one too, as its class is known. Those that are
    bounded by others come last, so that the others are checked first.
    """
    for name, value in vars(cls).items():  # ``dataclass`` leaves none of them behind
        hint = f"put @dataclasses.dataclass(frozen=True) in front of class {cls.__qualname__}"
        require(not isinstance(value, dataclasses.Field), name, "a setting of a class that is no dataclass", hint)
    hints = typing.get_type_hints(cls)
    inherited: dict[str, Setting] = {}
    for base in reversed([base for base in cls.__mro__ if "__dataclass_fields__" in vars(base)]):
        inherited |= {f.name: f.metadata["setting"] for f in dataclasses.fields(base) if "setting" in f.metadata}
    known: dict[str, Setting] = {}
    is_pytree = "is_pytree" in vars(cls)
    for each in dataclasses.fields(cls):
        kinds = kinds_of(hints[each.name])
        if each.name in inherited or all(_is_ours(kind) for kind in kinds):
            is_leaf = is_pytree and each.metadata.get("pytree_node", True)
            known[each.name] = inherited.get(each.name, Setting())._replace(kinds=kinds, can_be_array=is_leaf)
    return dict(sorted(known.items(), key=lambda item: item[1].is_relative))


def kinds_of(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation such as ``int | None``."""
    union = isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
    return typing.get_args(annotation) if union else (annotation,)


def _is_ours(kind: Any) -> bool:
    return kind is types.NoneType or (isinstance(kind, type) and kind.__module__.startswith("icrl."))


def _words(kind: Any) -> str:
    """A kind that has no bounds in words."""
    if typing.get_origin(kind) is tuple:
        return "names separated by commas"
    return {bool: "True or False", str: "text", types.NoneType: "none"}.get(kind, getattr(kind, "__name__", str(kind)))


def _number_or(otherwise: float, bound: Any) -> Any:
    """``bound`` as a plain number, or ``otherwise`` if it is not one number, or not known."""
    if bound is None or _is_traced(bound) or getattr(bound, "ndim", 0) > 0:
        return otherwise
    return bound.item() if hasattr(bound, "item") else bound


def _is_traced(value: Any) -> bool:
    """Whether ``value`` is one of jax's tracers; asks without importing jax."""
    jax: Any = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)
