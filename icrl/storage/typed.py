"""Kinds of values in documents that are read: what is another kind than expected is damage, said in one line.

A form is ``int`` (of 64 bits), ``float`` (any number), ``str``, ``bool`` or ``None``, a tuple of forms of which one
must fit, ``[form]`` for a list of such values, or a dictionary of the fields that must be there; ``dict`` and ``list``
are any.
"""

from typing import Any

from icrl.core.errors import DamagedError
from icrl.storage.paths import show


def conform(value: Any, form: Any, where: str) -> None:
    """Raise ``DamagedError`` naming ``where`` and the field unless ``value`` is of ``form``."""
    problem = _problem(value, form, "")
    if problem is not None:
        raise DamagedError(f"{where}: {problem}")


def _problem(value: Any, form: Any, name: str) -> str | None:
    """What is wrong with the field ``name`` ("" for the whole document), or None."""
    if isinstance(form, dict) and isinstance(value, dict):
        missing = sorted(form.keys() - value.keys())
        if missing:
            return f"{name}: expected the fields {', '.join(sorted(form))}, found no {missing[0]}".removeprefix(": ")
        named = ((value[key], each, f"{name}.{key}" if name else key) for key, each in form.items())
        return next(filter(None, (_problem(*each) for each in named)), None)
    if isinstance(form, list) and isinstance(value, list):
        return next(filter(None, (_problem(each, form[0], f"{name}[{n}]") for n, each in enumerate(value))), None)
    if _fits(value, form):
        return None
    return f"{name}: expected {_words(form)}, found {show(repr(value)[:60])}".removeprefix(": ")


def _fits(value: Any, form: Any) -> bool:
    if isinstance(form, tuple):
        return any(_problem(value, each, "") is None for each in form)
    if form is None or form is bool:
        return value is None if form is None else isinstance(value, bool)
    if isinstance(value, bool) or isinstance(form, dict | list):
        return False
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False  # it would not fit into an array
    return isinstance(value, int | float if form is float else form)


def _words(form: Any) -> str:
    if isinstance(form, tuple):
        return " or ".join(map(_words, form))
    if isinstance(form, dict | list) or form in (dict, list):
        return "a dictionary" if isinstance(form, dict) or form is dict else "a list"
    return {int: "an integer", float: "a number", str: "a text", bool: "true or false", None: "null"}[form]
