"""What a page of the site may ask for: a line ``{{ WHAT: NAME }}`` is replaced when the site is built.

So is a paragraph in front of it that tells readers of the file what will stand there ("*In a checkout ...*").

- ``catalogue: KIND``: all that is registered of a kind, with settings;
- ``comparisons: all``: other programs beside ours, from ``benchmarks/results``;
- ``compiling: all``: what compiling costs each experiment, from there as well;
- ``reproductions: EXPERIMENT``: published numbers beside ours;
- ``examples: all``: the scripts of ``examples``, what each is for and its code;
- ``experiment: EXPERIMENT``: its docstring, which says what it reproduces and what was measured, when and where.
"""

import re
from collections.abc import Callable
from pathlib import Path

import catalogue
import comparisons
import compile_costs
import papers

from icrl.core.registry import experiments

EXAMPLES = Path(__file__).parent.parent / "examples"


def scripts(which: str) -> str:
    """Every script with its docstring as text and the rest as code."""
    del which
    parts = []
    for path in sorted(EXAMPLES.glob("*.py")):
        _, about, code = path.read_text(encoding="utf-8").split('"""', 2)
        title = re.split("[:,]", about)[0]
        parts.append(f"## {title}\n\n{about.strip()}\n\n```python\n{code.strip()}\n```")
    return "\n\n".join(parts)


MAKERS: dict[str, Callable[[str], str]] = {
    "catalogue": catalogue.listing,
    "comparisons": comparisons.listing,
    "compiling": compile_costs.listing,
    "examples": scripts,
    "reproductions": papers.comparison,
    "experiment": lambda name: catalogue.module_docstring(experiments.entry(name)),
}

_DIRECTIVE = re.compile(r"^(?:\*In a checkout [^\n]*\n\n)?\{\{ (\w+): ([\w-]+) \}\}$", re.M)


def filled(markdown: str) -> str:
    """``markdown`` with each directive replaced by what it names."""
    return _DIRECTIVE.sub(lambda found: MAKERS[found[1]](found[2]), markdown)
