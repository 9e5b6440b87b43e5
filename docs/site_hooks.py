"""What mkdocs runs while it builds the site; ``mkdocs.yml`` names this file.

What is made from the code (``directives.py``) is made at every build, so it cannot fall behind. Built pages are held to
the rules of ``site_rules.py``; one that breaks a rule is a warning, on which a strict build fails.
"""

import logging
from pathlib import Path
from typing import Any

import directives
import papers
import site_rules
from mkdocs.structure.files import File, Files

log = logging.getLogger("mkdocs.hooks.icrl")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the figures of the papers."""
    for path, content in papers.figures().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the page's directives."""
    return directives.filled(markdown)


def on_post_build(config: Any, **_: Any) -> None:
    """Hold every page to the rules."""
    for broken in site_rules.check(Path(config["site_dir"])):
        log.warning(broken)
