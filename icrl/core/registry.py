"""One small registry with good manners, one instance per kind of thing.

A file in the kind's folder declares its entry next to the definition::

    @environments.register("GaussianBandit-v0", paper="Lee et al. 2023, section 4")
    class GaussianBandit(Bandit): ...

and nothing else has to be edited. Names are read off the sources of the folder (``declared``), so listing them,
``import icrl`` and ``icrl --help`` import no jax; the modules are imported on the first look-up.
"""

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, NamedTuple, TypeVar

from icrl.core.errors import InputError, near_names, require

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
    """Names to things of one kind; refuses duplicates and suggests near names."""

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self.package = package
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
            known = self._entries.get(name)
            same_source = known is not None and known.file == module and known.item.__name__ == item.__name__  # type: ignore[attr-defined]
            if known is not None and not same_source:  # a reload of the same module may replace its own entry
                raise InputError(f"{self.kind} {name!r} is already registered by {known.file}")
            self._entries[name] = Entry(name, item, paper, module)
            if prefix:
                self._prefixes[prefix] = name, setting
            return item

        return file_under_name

    def __getitem__(self, name: str) -> Any:
        """The item called ``name``; an unknown name raises ``InputError`` with the near ones."""
        return self.entry(name).item

    def entry(self, name: str) -> Entry:
        """The entry called ``name`` with its paper and file; for PREFIX:TEXT that of the prefix."""
        require(isinstance(name, str), self.kind, name, f"the name of a registered {self.kind}")
        name, _ = self.resolve(name)
        if name not in self._entries:
            self._discover()
        if name not in self._entries:
            raise InputError(f"unknown {self.kind} {name!r}; {near_names(name, self._entries)}")
        return self._entries[name]

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
        """The name under which ``item`` is registered; ``InputError`` if it is not."""
        self._discover()
        for name, entry in self._entries.items():
            if entry.item is item:
                return name
        raise InputError(f"{self.kind}: {getattr(item, '__name__', item)!r} is not registered")

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._discover()
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

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


environments = Registry("environment", "icrl.envs")
agents = Registry("agent", "icrl.agents")
models = Registry("model", "icrl.models")
layouts = Registry("layout", "icrl.layouts")
objectives = Registry("objective", "icrl.objectives")
filters = Registry("filter", "icrl.filters")
importers = Registry("importer", "icrl.datasets.importers")
experiments = Registry("experiment", "icrl.experiments")

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
