"""The catalogue of the site: what is registered of each kind, made from the registries and docstrings.

A page of ``docs/catalogue`` introduces its kind by hand and says ``{{ catalogue: KIND }}`` where the list belongs.
"""

import dataclasses
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from icrl.core.errors import shown
from icrl.core.fields import Setting, declared
from icrl.core.registry import KINDS, Entry, Registry
from icrl.core.settings import leaves


def listing(kind: str) -> str:
    """What is registered of one kind: a table of all entries, then each with its settings."""
    registry = KINDS[kind]
    entries = [registry.entry(name) for name in registry]
    rows = [(f"[`{each.name}`](#{anchor(each)})", headline(each, registry), each.paper) for each in entries]
    return "\n\n".join([table(("name", "what", "from"), rows), *(section(each, kind) for each in entries)])


def section(entry: Entry, kind: str) -> str:
    """What is to be said of one entry."""
    head = f"## {entry.name} {{ #{anchor(entry)} }}"
    about = module_docstring(entry) if kind == "experiments" else "\n\n".join(_lines_about(entry))
    source = f"Source: `{entry.file.replace('.', '/')}.py`" + (f" · {entry.paper}" if entry.paper else "")
    settings = presets_table(entry.item) if kind == "experiments" else settings_table(entry.item)
    return "\n\n".join(part for part in (head, about, source, settings) if part)


def anchor(entry: Entry) -> str:
    """The place of an entry on its page."""
    return entry.name.lower().replace(".", "-")


def headline(entry: Entry, registry: Registry) -> str:
    """One line: the module's first, or that of the class where a file registers several."""
    alone = sum(registry.entry(name).file == entry.file for name in registry) == 1
    return _lines_about(entry)[0 if alone else -1]


def _lines_about(entry: Entry) -> list[str]:
    """The first lines of the docstrings of an entry's module and of itself."""
    return [as_text((text or "").partition("\n")[0]) for text in (sys.modules[entry.file].__doc__, entry.item.__doc__)]


def module_docstring(entry: Entry) -> str:
    """The docstring of an entry's module as Markdown."""
    blocks = (sys.modules[entry.file].__doc__ or "").strip().split("\n\n")
    return "\n\n".join(
        f"```text\n{textwrap.dedent(block)}\n```" if _is_literal(block) else as_text(block) for block in blocks
    )


def _is_literal(block: str) -> bool:
    """Whether a block of a docstring is a table or a list of commands, to be shown as it is."""
    return block.startswith(("===", "    "))


def as_text(text: str) -> str:
    """A docstring as Markdown: what stands between quotes of code stays, elsewhere no sign is one of Markdown's."""
    parts = re.split(r"(``.*?``)", text, flags=re.S)
    return "".join(part if part.startswith("``") else re.sub(r"([*_<|\[\]])", r"\\\1", part) for part in parts)


def settings_table(item: Any) -> str:
    """Names, defaults, bounds and help texts of the settings of a registered class; empty if it has none."""
    config = getattr(item, "Config", item)
    if not dataclasses.is_dataclass(config):
        return ""
    known = declared(config)
    rows = [
        _setting_row(each, known[each.name]) for each in dataclasses.fields(config) if each.init and each.name in known
    ]
    return table(("setting", "default", "allowed", "meaning"), rows) if rows else ""


def _setting_row(field: Any, setting: Setting) -> tuple[str, ...]:
    missing = field.default is dataclasses.MISSING
    default = "" if missing else f"`{shown(field.default)}`"
    return f"`{field.name}`", default, as_text(setting.allowed), as_text(setting.help)


def presets_table(experiment: Any) -> str:
    """The settings that are not the same in all presets, with their values in each."""
    presets = experiment.presets
    known = {name: leaves(settings) for name, settings in presets.items()}
    names = dict.fromkeys(leaf for settings in known.values() for leaf in settings)
    rows = []
    for name in names:
        values = [_value(known[preset], name) for preset in presets]
        if len(set(values)) > 1:
            meaning = next(settings[name].help for settings in known.values() if name in settings)
            rows.append((f"`{name}`", *values, as_text(meaning)))
    return table(("setting", *presets, "meaning"), rows) if rows else ""


def _value(settings: dict[str, Any], name: str) -> str:
    """A setting's value in a preset; a dash where its part is another one that lacks it."""
    if name not in settings:
        return "-"
    value = settings[name].value
    text = ", ".join(value) if isinstance(value, tuple) else shown(value).strip("'")
    return f"`{text}`" if text else "-"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace(chr(10), ' ') for cell in line)} |" for line in lines)
