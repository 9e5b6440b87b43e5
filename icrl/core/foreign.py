"""Modules that are not ours: imported because somebody named them, never because a file did.

A name MODULE:NAME means what the module registers under NAME, or its attribute NAME, as in gymnasium. A package may
also declare entry points in the group ``icrl.plugins``, whose values are modules; they are imported when a registry is
listed or does not know a name. To install such a package is to trust it.

What a file says is another matter: a config or a shared agent must not choose what is executed. While one is read
(``stored_names``), a module is used if it is imported already, belongs to a plugin, or was allowed (``allow``).
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType

from icrl.core.errors import InputError, require, shown

GROUP = "icrl.plugins"
_MODULE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_NAME = re.compile(rf"({_MODULE}):([A-Za-z0-9_][A-Za-z0-9._-]*)", re.ASCII)
_IN_A_WORD = re.compile(rf"(?:^|[=,*+])\s*({_MODULE}):", re.ASCII)  # also one of several names, or behind a share

_log = logging.getLogger("icrl")
_allowed: set[str] = set()
_reading = 0  # files under way; no context variable, as evaluations start threads
_plugins_are_loaded = False


class UntrustedError(InputError):
    """A file names a module that is neither imported nor allowed."""


def parsed(name: str) -> tuple[str, str] | None:
    """(module, name inside of it) of MODULE:NAME; None for a name of another form."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2]) if match else None


@contextlib.contextmanager
def stored_names() -> Iterator[None]:
    """Inside of it names come from files, which import nothing; as ``with`` or as a decorator."""
    global _reading
    _reading += 1
    try:
        yield
    finally:
        _reading -= 1


def allow(modules: Iterable[str]) -> None:
    """Import ``modules`` and let files name them and what is below them.

    Raises:
      InputError: one that is no module's name, is not there, or cannot be imported.
    """
    for module in [modules] if isinstance(modules, str) else modules:
        is_name = isinstance(module, str) and re.fullmatch(_MODULE, module, re.ASCII)
        require(bool(is_name), "allow_import", module, "the name of a module, such as my_lab.worlds")
        _import(module, "allow_import")
        _allowed.add(module)


def allow_typed(words: Iterable[str]) -> None:
    """Allow the modules of the names MODULE:NAME in ``words`` of a command line; imported when they are looked up."""
    for word in words:
        _allowed.update(_IN_A_WORD.findall(word))


def module_of(name: str, kind: str) -> ModuleType:
    """The module of the ``name`` MODULE:NAME of a thing of this ``kind``, imported if that is allowed.

    Raises:
      UntrustedError: a file names it, and nobody else. InputError: it is not there, or cannot be imported.
    """
    module = name.partition(":")[0]
    if module not in sys.modules and _reading and not _is_allowed(module):
        load_plugins()
        if module not in sys.modules:
            raise UntrustedError(
                f"{kind}: got {shown(name)} in a file, which imports nothing, allowed: a module that is imported "
                f"already; --allow-import {module} imports it, in Python allow_import=[{module!r}]"
            )
    return sys.modules.get(module) or _import(module, f"{kind} {name!r}")


def load_plugins() -> None:
    """Import what other packages declare, once; one that cannot be imported is told in a line and left out."""
    global _plugins_are_loaded
    if _plugins_are_loaded:
        return
    _plugins_are_loaded = True  # before their modules, which look up names themselves
    for point in sorted(importlib.metadata.entry_points(group=GROUP)):
        try:
            _import(point.module, f"plugin {point.name}")
        except InputError as error:
            _log.warning("%s; left out", error)


def _is_allowed(module: str) -> bool:
    return any(f"{module}.".startswith(f"{each}.") for each in _allowed)


def _import(module: str, field: str) -> ModuleType:
    """The module, from where Python finds it or else from the working folder, as ``python -m`` has it."""
    try:
        if not _is_there(module):
            sys.path.append(os.getcwd())
            if not _is_there(module):
                sys.path.pop()
                hint = "install its package, or start in the folder that holds it"
                require(False, field, module, "a module that Python finds", hint)
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever its code raises
        if isinstance(error, InputError) and str(error).startswith(f"{field}: got"):
            raise
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        raise InputError(f"{field}: importing {module} failed: {kind}{' '.join(str(error).split())}") from error


def _is_there(module: str) -> bool:
    importlib.invalidate_caches()
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a package above it needs another one
        return False
