"""Settings are frozen dataclasses; this file turns them into flat names, JSON values, command-line text and back.

An experiment's settings nest (environment, model, optimisation); on the command line and in ``config.json`` they are
flat, so leaf names must be unique: ``FitSettings.learning_rate`` is ``--learning-rate`` and ``"learning_rate"``.

A nested dataclass may follow from a name: ``backbone`` is the ``Config`` of the model that ``model`` names, so that
``--model s5`` brings the flags of S5 (see ``follows``). One that is registered itself is its own name: a field ``env``
that is ``named(environments)`` is chosen by ``--env RiverSwim-v0`` and brings the flags of that environment.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from icrl.core.errors import InputError, near_names, require, shown
from icrl.core.fields import Setting, declared, kinds_of
from icrl.core.registry import Registry

Settings = TypeVar("Settings")
MAX_DIGITS = 20  # of an integer, and
MAX_LENGTH = 100  # characters of any number, in words
Value = int | float | str | bool | None | tuple[str, ...]


class Leaf(typing.NamedTuple):
    """One setting."""

    name: str
    value: Value
    kind: Any  # its annotation
    help: str  # a phrase
    part: str = ""  # the field of the outermost dataclass that it is in; "" for a setting of that dataclass itself
    allowed: str = ""  # its bounds or choices in words


def leaves(settings: Any) -> dict[str, Leaf]:
    """All settings of a nested dataclass by leaf name, in order of declaration."""
    found: dict[str, Leaf] = {}
    cls: Any = type(settings)  # Any, as mypy takes a class of unknown kind for one that cannot be hashed
    kinds, known = typing.get_type_hints(cls), declared(cls)
    for field in (each for each in dataclasses.fields(settings) if each.init):  # the others follow from the class
        value = getattr(settings, field.name)
        said = known.get(field.name, Setting())
        if dataclasses.is_dataclass(value):
            inner = {name: leaf._replace(part=field.name) for name, leaf in leaves(value).items()}
            if "named" in field.metadata:
                registry, kept = field.metadata["named"], field.metadata["unlisted"]
                name = next((name for name, item in kept.items() if item is type(value)), "")
                name = name or registry.name_of(type(value))
                chosen_by = Leaf(field.name, name, str, f"registered {registry.kind}", field.name)
                inner = {field.name: chosen_by, **inner}
        else:
            inner = {field.name: Leaf(field.name, value, kinds[field.name], said.help, allowed=said.allowed)}
        clash = found.keys() & inner.keys()
        assert not clash, f"{type(settings).__name__}: two settings are called {sorted(clash)}"
        found |= inner
    return found


def flat(settings: Any) -> dict[str, Value]:
    """Leaf names to values, ready for JSON (tuples become lists there)."""
    return {name: leaf.value for name, leaf in leaves(settings).items()}


def named(registry: Registry, **unlisted: Any) -> dict[str, Any]:
    """Metadata of a field that holds an instance of a registered dataclass; the field's name is a setting as well.

    ``unlisted`` are dataclasses by name that this field alone knows, because no registry should list them.
    """
    return {"named": registry, "unlisted": unlisted}


def follows(name: str, registry: Registry) -> dict[str, Any]:
    """Metadata of a field whose dataclass is the ``Config`` of the item that the setting ``name`` names."""
    return {"follows": (name, registry)}


def chosen(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The settings with every dataclass that follows a name in ``values`` exchanged for the one it names now.

    Settings that the old and the new ``Config`` share keep their values, the others take their defaults; a registered
    item that is exchanged (an environment, say) begins with all of its own defaults.

    Raises:
      InputError: a name that is not registered, or a shared value that the new dataclass refuses.
    """
    changes: dict[str, Any] = {}
    for each in dataclasses.fields(settings):  # type: ignore[arg-type]
        old = getattr(settings, each.name)
        if "named" in each.metadata and isinstance(values.get(each.name), str):
            registry = each.metadata["named"]
            target, given = registry.resolve(values[each.name])
            item = each.metadata["unlisted"].get(target) or registry[target]
            changes |= {} if type(old) is item and not given else {each.name: item(**given)}
        elif dataclasses.is_dataclass(old) and "follows" not in each.metadata:
            inner = chosen(old, values)
            changes |= {} if inner is old else {each.name: inner}
    for field, name, registry in _following(settings):
        wanted = values.get(name, getattr(settings, name))
        config = _config(registry[wanted]) if isinstance(wanted, str) else None
        old = getattr(settings, field)
        if config is not None and type(old) is not config:
            shared = {each.name for each in dataclasses.fields(config)} & vars(old).keys()
            changes |= {name: wanted, field: config(**{each: getattr(old, each) for each in shared})}
    return dataclasses.replace(settings, **changes) if changes else settings  # type: ignore[type-var]


def check_following(settings: Any) -> None:
    """Raise ``InputError`` when a dataclass is not of the class that its name calls for; for ``__post_init__``."""
    for field, name, registry in _following(settings):
        item = getattr(settings, name)
        found, wanted = type(getattr(settings, field)), _config(registry[item])
        require(found is wanted, field, found.__name__, f"{wanted.__name__}, the settings of {name} {item}")


def _config(item: Any) -> Any:
    """The dataclass of the settings of a registered item: its ``Config``, or the item itself."""
    return getattr(item, "Config", item)


def _following(settings: Any) -> list[tuple[str, str, Registry]]:
    """(field, name it follows, registry of the names)."""
    return [(f.name, *f.metadata["follows"]) for f in dataclasses.fields(settings) if "follows" in f.metadata]


def replaced(settings: Settings, values: dict[str, Any]) -> Settings:
    """The same settings with some leaves changed; constructing them again validates every value.

    Raises:
      InputError: an unknown name (with the near ones), a value of the wrong kind, or one out of range.
    """
    settings = chosen(settings, values)
    known = leaves(settings)
    for name in values:
        if name not in known:
            raise InputError(f"unknown setting {name!r}; {near_names(name, known)}")
    checked = {name: _of_kind(known[name], value) for name, value in values.items()}
    return typing.cast(Settings, _rebuild(settings, checked))


def parsed(leaf: Leaf, text: str) -> Value:
    """The value that ``text`` from a command line means for ``leaf``."""
    if leaf.kind is str:
        return text
    return typing.cast(Value, _of_kind(leaf, text if typing.get_origin(leaf.kind) is tuple else plain_value(text)))


def plain_value(text: str) -> Value:
    """The number, truth value or None that ``text`` spells in decimal digits or words; else the text itself."""
    words: dict[str, Value] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if len(text) <= MAX_DIGITS and re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        return int(text)
    is_number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf)", text.lower(), re.ASCII)
    return float(text) if is_number and len(text) <= MAX_LENGTH else text


def kind_name(leaf: Leaf) -> str:
    """The kind of a setting in words: 'an integer', 'a number or none', ..."""
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text", types.NoneType: "none"}
    if typing.get_origin(leaf.kind) is tuple:
        return "names separated by commas"
    return " or ".join(words.get(kind, str(kind)) for kind in kinds_of(leaf.kind))


def _of_kind(leaf: Leaf, value: Any) -> Any:
    kinds = kinds_of(leaf.kind)
    if typing.get_origin(leaf.kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, (list, tuple)) and all(isinstance(part, str) for part in parts):
            return tuple(part for part in map(str.strip, parts) if part)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if any(type(value) is kind for kind in kinds):
        return value
    raise InputError(f"{leaf.name}: got {shown(value)}, allowed: {kind_name(leaf)}")


def _rebuild(settings: Any, values: dict[str, Any]) -> Any:
    changes = {}
    for field in (each for each in dataclasses.fields(settings) if each.init):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _rebuild(value, values)
        elif field.name in values:
            changes[field.name] = values[field.name]
    return dataclasses.replace(settings, **changes)
