"""One small registry with good manners, one instance per kind of thing.

A file in the kind's folder declares its entry next to the definition::

    @environments.register("GaussianBandit-v0", paper="Lee et al. 2023, section 4")
    class GaussianBandit(Bandit): ...

and nothing else has to be edited. Names are read off the sources of the folder (``declared``), so listing them,
``import icrl`` and ``icrl --help`` import no jax; the modules are imported on the first look-up.

Other packages register likewise, as plugins or when a name MODULE:NAME is looked up (``foreign.py``). Names of ours
are never theirs, and what they register must be of the kind, with all its methods.
"""

import functools
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, NamedTuple, TypeVar

from icrl.core import foreign
from icrl.core.errors import InputError, near_names, require, shown

Item = TypeVar("Item")

_DECLARATION = re.compile(r'^@\w+\.register\(\s*"([^"]+)"(?:,\s*paper="([^"]*)")?', re.M)


class Entry(NamedTuple):
    """One registered thing."""

    name: str
    item: Any
    paper: str
    file: str  # dotted module name


class Declared(NamedTuple):
    """What a file says of an entry, without importing it."""

    name: str
    paper: str
    file: str  # dotted module name


class Registry:
    """Names to things of one kind; refuses duplicates and suggests near names.

    ``base`` is the class, as MODULE:NAME, that things of other packages derive from; without it they may be anything.
    ``watchers`` are called with every entry of another package once it is registered.
    """

    def __init__(self, kind: str, package: str, base: str = ""):
        self.kind = kind
        self.package = package
        self.base = base
        self.watchers: list[Callable[[Entry], None]] = []
        self._entries: dict[str, Entry] = {}
        self._prefixes: dict[str, tuple[str, str]] = {}  # to the entry and the setting that are meant
        self._discovered = False

    def register(self, name: str, *, paper: str = "", prefix: str = "", setting: str = "") -> Callable[[Item], Item]:
        """Return a decorator that files an item under ``name``; the name must be new.

        With a ``prefix`` every name PREFIX:TEXT means the item with TEXT as its ``setting``; see ``resolve``.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise InputError(f"{self.kind} name: got {name!r}, allowed: 1-64 characters of A-Z a-z 0-9 . _ -")

        def file_under_name(item: Item) -> Item:
            if "_flax_dataclass" in vars(item):  # jit may take one such class for another
                raise InputError(f"{self.kind} {name!r}: got a dataclass of flax.struct, allowed: icrl.core.struct's")
            module = getattr(item, "__module__", "")
            if not self._is_ours(module):
                self._check_stranger(name, item)
            known = self._entries.get(name)
            same_source = known is not None and known.file == module and known.item.__name__ == item.__name__  # type: ignore[attr-defined]
            if known is not None and not same_source:  # a reload of the same module may replace its own entry
                raise InputError(f"{self.kind} {name!r} is already registered by {known.file}")
            self._entries[name] = Entry(name, item, paper, module)
            if prefix:
                self._prefixes[prefix] = name, setting
            if not self._is_ours(module):
                for watch in self.watchers:
                    watch(self._entries[name])
            return item

        return file_under_name

    def __getitem__(self, name: str) -> Any:
        """The item called ``name``; an unknown name raises ``InputError`` with the near ones."""
        return self.entry(name).item

    def entry(self, name: str) -> Entry:
        """The entry called ``name`` with its paper and file; for PREFIX:TEXT that of the prefix.

        MODULE:NAME imports the module, unless a file says so (``foreign.stored_names``).
        """
        require(isinstance(name, str), self.kind, name, f"the name of a registered {self.kind}")
        name, _ = self.resolve(name)
        if foreign.parsed(name):
            return self._entry_of_module(name)
        if name not in self:
            raise InputError(f"unknown {self.kind} {name!r}; {near_names(name, self._entries)}")
        return self._entries[name]

    def _entry_of_module(self, name: str) -> Entry:
        """What the module of MODULE:NAME has registered, or its attribute, which need not be registered."""
        module, inner = foreign.module_of(name, self.kind), name.partition(":")[2]
        entry = self._entries.get(inner)
        if entry is not None and _package(entry.file) == _package(module.__name__):
            return entry
        item = getattr(module, inner, None)
        registered = [each.name for each in self._entries.values() if _package(each.file) == _package(module.__name__)]
        allowed = ", ".join(registered) or f"what it registers, and it registers no {self.kind}"
        require(item is not None, f"{self.kind} of {module.__name__}", inner, f"{allowed}, or a class of it")
        self._check_kind(name, item)
        return Entry(inner, item, "", module.__name__)

    def resolve(self, name: str) -> tuple[str, dict[str, Any]]:
        """(registered name, settings) that ``name`` means; a name without a known prefix means itself."""
        prefix, colon, text = name.partition(":")
        if colon:
            self._discover()
        if not colon or prefix not in self._prefixes:
            return name, {}
        target, setting = self._prefixes[prefix]
        return target, {setting: text}

    def make(self, name: str) -> Any:
        """The item called ``name``, with no settings but those that the name itself gives."""
        target, settings = self.resolve(name)
        return self[target](**settings)

    def name_of(self, item: Any) -> str:
        """The name under which ``item`` is found again: the registered one, MODULE:NAME for what is not ours.

        Raises:
          InputError: it is neither registered nor a class that its module shows.
        """
        self._discover()
        for entry in self._entries.values():
            if entry.item is item:
                return self._full_name(entry)
        module, name = getattr(item, "__module__", ""), getattr(item, "__qualname__", "")
        if self.base and name and getattr(sys.modules.get(module), name, None) is item:
            return f"{module}:{name}"
        raise InputError(f"{self.kind}: {getattr(item, '__name__', item)!r} is not registered")

    def __iter__(self) -> Iterator[str]:
        self._discover_all()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._discover_all()
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        for look_further in (lambda: None, self._discover, self._discover_all):
            look_further()
            if name in self._entries:
                return True
        return False

    def _discover_all(self) -> None:
        self._discover()
        foreign.load_plugins()

    def _discover(self) -> None:
        if not self._discovered:
            for found in self._module_specs():
                importlib.import_module(found.name)
            self._discovered = True

    def _module_specs(self) -> list[ModuleSpec]:
        """The folder's files, or the one file of a kind that has no folder; nothing below ``icrl`` is imported."""
        spec = importlib.util.find_spec(self.package)
        assert spec is not None, self.package
        if spec.submodule_search_locations is None:
            return [spec]
        names = [each.name for each in pkgutil.iter_modules(spec.submodule_search_locations) if each.name[0] != "_"]
        specs = [PathFinder.find_spec(f"{self.package}.{name}", spec.submodule_search_locations) for name in names]
        return [found for found in specs if found is not None]

    def declared(self) -> list[Declared]:
        """What the folder's files declare, sorted by name, read from their text without importing them."""
        rows = []
        for spec in self._module_specs():
            source = spec.loader.get_source(spec.name) or ""  # type: ignore[union-attr]
            rows += [Declared(name, paper, spec.name) for name, paper in _DECLARATION.findall(source)]
        return sorted(rows)

    def listed(self) -> list[Declared]:
        """What is declared and what other packages have registered, whose names are MODULE:NAME; imports plugins."""
        foreign.load_plugins()
        theirs = (each for each in self._entries.values() if not self._is_ours(each.file))
        return self.declared() + sorted(Declared(self._full_name(each), each.paper, each.file) for each in theirs)

    def _is_ours(self, module: str) -> bool:
        return f"{module}.".startswith(f"{self.package}.")

    def _full_name(self, entry: Entry) -> str:
        return entry.name if self._is_ours(entry.file) else f"{entry.file}:{entry.name}"

    @functools.cached_property
    def _our_names(self) -> dict[str, str]:
        return {row.name: row.file for row in self.declared()}

    def _check_stranger(self, name: str, item: Any) -> None:
        """Raise ``InputError`` for a name that is ours, or an item of another kind."""
        if name in self._our_names:
            raise InputError(f"{self.kind} {name!r} is already registered by {self._our_names[name]}")
        self._check_kind(name, item)

    def _check_kind(self, name: str, item: Any) -> None:
        module, _, base = self.base.partition(":")
        if not base:
            return
        expected = getattr(sys.modules.get(module), base, None)  # not imported: then nothing derives from it
        is_class = isinstance(item, type)
        fits = is_class and expected is not None and issubclass(item, expected) and item is not expected
        found = f"{item.__module__}.{item.__qualname__}" if is_class else shown(item)
        if not fits:
            raise InputError(f"{self.kind} {name!r}: got {found}, allowed: a class that derives from {module}.{base}")
        missing = sorted(getattr(item, "__abstractmethods__", ()))
        if missing:
            raise InputError(f"{self.kind} {name!r}: {found} lacks {', '.join(missing)}")


def _package(module: str) -> str:
    return module.partition(".")[0]


environments = Registry("environment", "icrl.envs", "icrl.core.types:Environment")
agents = Registry("agent", "icrl.agents", "icrl.core.types:Agent")
models = Registry("model", "icrl.models", "icrl.core.model_types:SequenceModel")
layouts = Registry("layout", "icrl.layouts", "icrl.core.model_types:Layout")
objectives = Registry("objective", "icrl.objectives", "icrl.core.model_types:Objective")
filters = Registry("filter", "icrl.filters", "icrl.filters._table:Filter")
importers = Registry("importer", "icrl.datasets.importers")
experiments = Registry("experiment", "icrl.experiments", "icrl.recipes.experiment:Experiment")

KINDS = {
    "envs": environments,
    "agents": agents,
    "models": models,
    "layouts": layouts,
    "objectives": objectives,
    "filters": filters,
    "importers": importers,
    "experiments": experiments,
}
