"""Settings as words on a command line and as lines of a TOML file: the same names, the same errors."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from icrl.core.errors import InputError, near_names, require, shown
from icrl.core.settings import Leaf, Value, chosen, kind_name, leaves, parsed

PARTS = {  # of a recipe, in the order in which help and files list them
    "env": "environment",
    "data": "data",
    "prediction": "objective and layout",
    "backbone": "model",
    "fit": "training",
    "evaluation": "evaluation",
    "": "run",
}
REPEATED = ("vary",)  # flags that may stand several times, each one value of a tuple


def values_of(defaults: Any, rest: list[str], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings that the flags ``rest`` change, parsed by their kinds; a name may bring flags of its own.

    Args:
      defaults: the settings of the preset.
      rest: words such as ``--train-steps 100`` or ``--train-steps=100``.
      stored: values from a file, which flags override.

    Raises:
      InputError: an unknown flag (with near ones), one without a value, one given twice, a value of another kind.
    """
    words = flag_words(rest)
    names = {leaf_name(flag): text for flag, text in words if text is not None}
    known = leaves(chosen(defaults, {**(stored or {}), **names}))
    values: dict[str, Any] = {}
    for flag, text in words:
        name = leaf_name(flag)
        if not flag.startswith("--") or name not in known:
            near = near_names(flag, [f"--{leaf.replace('_', '-')}" for leaf in known])
            raise InputError(f"unrecognized argument {flag!r}; {near}")
        if text is None:
            raise InputError(f"{flag}: a value is missing")
        if name in REPEATED:
            values[name] = (*values.get(name, ()), text)
        elif name in values:
            raise InputError(f"{flag}: given twice")
        else:
            values[name] = parsed(known[name], text)
    return {**(stored or {}), **values}


def flag_words(rest: list[str]) -> list[tuple[str, str | None]]:
    """(flag, its value or None where there is none) in order; a word that is no flag stands alone."""
    found: list[tuple[str, str | None]] = []
    words = iter(rest)
    for word in words:
        flag, equals, text = word.partition("=")
        found.append((flag, text) if equals else (word, next(words, None) if word.startswith("--") else None))
    return found


def leaf_name(flag: str) -> str:
    """``--train-steps`` to ``train_steps``."""
    return flag.removeprefix("--").replace("-", "_")


def grouped(settings: Any) -> dict[str, list[Leaf]]:
    """The settings by part, in the order of ``PARTS``; the name of a model stands with the model's own settings."""
    groups: dict[str, list[Leaf]] = {part: [] for part in PARTS}
    for leaf in leaves(settings).values():
        groups.setdefault("backbone" if leaf.name == "model" else leaf.part, []).append(leaf)
    return {PARTS.get(part, part): found for part, found in groups.items() if found}


def help_text(settings: Any) -> str:
    """All flags with their values, what is allowed, and their meanings, by part."""
    lines = []
    for part, found in grouped(settings).items():
        lines.append(f"{part}:")
        for leaf in found:
            value = ",".join(leaf.value) if isinstance(leaf.value, tuple) else leaf.value
            lines.append(f"  --{leaf.name.replace('_', '-')} {value}".rstrip())
            lines.append(f"        {leaf.allowed or kind_name(leaf)}. {leaf.help}".rstrip())
    return "\n".join(lines)


def to_toml(head: Mapping[str, Value], settings: Any) -> str:
    """``head`` and all settings as a TOML file that ``read_toml`` reads; what is None is written "none"."""
    lines = [f"{name} = {_toml(value)}" for name, value in head.items()]
    for part, found in grouped(settings).items():
        lines += ["", f"# {part}", *(f"{leaf.name} = {_toml(leaf.value)}" for leaf in found)]
    return "\n".join(lines) + "\n"


def read_toml(path: Path) -> dict[str, Any]:
    """The keys and values of a flat TOML file.

    Raises:
      InputError: no such file, not TOML, a key that stands twice, or a table; with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # no text, or a path that cannot be spelled
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"config: got {shown(str(path))}, allowed: a TOML file ({reason})") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML, or a key twice: {error}") from error
    for name, value in values.items():
        require(not isinstance(value, dict), f"{path}: line {_line(text, name)}: {name}", "a table", "a value")
    return values


def known_values(path: Path, defaults: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` of the file ``path`` as settings; ``InputError`` with the line of an unknown key, and near names."""
    known = leaves(chosen(defaults, {name: value for name, value in values.items() if isinstance(value, str)}))
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            line = _line(path.read_text(encoding="utf-8"), name)
            raise InputError(f"{path}: line {line}: unknown setting {name!r}; {near_names(name, known)}")
        textual = isinstance(value, str) and known[name].kind is not str
        found[name] = parsed(known[name], value) if textual else tuple(value) if isinstance(value, list) else value
    return found


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Iterable):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)


def _line(text: str, name: str) -> int:
    """The line on which the key ``name`` is set, from 1."""
    pattern = re.compile(rf'\s*"?{re.escape(name)}"?\s*=|\s*\[\s*"?{re.escape(name)}"?')
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)
