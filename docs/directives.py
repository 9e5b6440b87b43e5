"""What a page of the site may ask for: a line ``{{ WHAT: NAME }}`` is replaced when the site is built.

- ``catalogue: KIND``: all that is registered of a kind, with settings;
- ``reproductions: EXPERIMENT``: published numbers beside ours;
- ``experiment: EXPERIMENT``: its docstring, which says what it reproduces and what was measured, when and where.
"""

import re
from collections.abc import Callable

import catalogue
import papers

from icrl.core.registry import experiments

MAKERS: dict[str, Callable[[str], str]] = {
    "catalogue": catalogue.listing,
    "reproductions": papers.comparison,
    "experiment": lambda name: catalogue.module_docstring(experiments.entry(name)),
}

_DIRECTIVE = re.compile(r"^\{\{ (\w+): ([\w-]+) \}\}$", re.M)


def filled(markdown: str) -> str:
    """``markdown`` with each directive replaced by what it names."""
    return _DIRECTIVE.sub(lambda found: MAKERS[found[1]](found[2]), markdown)
