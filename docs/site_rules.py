"""Two rules for every page of the built site: how much it may weigh, and that it asks nobody else for anything."""

import re
from pathlib import Path

MAX_BYTES = 2_000_000  # of a page with all that it loads, the index of the search included
SEARCH = ("search/search_index.json", "assets/javascripts/workers/*.js")  # what scripts load and no page names

_LOADED = re.compile(r'<(?:script|img|iframe|source)\b[^>]*?\bsrc="([^"]+)"|<link\b[^>]*?\bhref="([^"]+)"[^>]*>')


def check(site: Path) -> list[str]:
    """A sentence for each page below ``site`` that breaks a rule."""
    broken = []
    for page in sorted(site.rglob("*.html")):
        name, foreign, weight = page.relative_to(site), foreign_addresses(page), page_weight(page, site)
        if foreign:
            broken.append(f"{name} loads {', '.join(foreign)}; a page may load nothing from elsewhere")
        if weight > MAX_BYTES:
            broken.append(f"{name} weighs {weight} bytes with what it loads; at most {MAX_BYTES}")
    return broken


def loaded(page: Path) -> list[str]:
    """The addresses that a page loads: scripts, pictures, style sheets; those that are data themselves are left out."""
    found = (script or link for script, link in _LOADED.findall(page.read_text(encoding="utf-8")))
    return sorted({address for address in found if not address.startswith(("data:", "#"))})


def foreign_addresses(page: Path) -> list[str]:
    """Those of ``loaded`` that are not on the site."""
    return [address for address in loaded(page) if re.match(r"(https?:)?//", address)]


def page_weight(page: Path, site: Path) -> int:
    """Bytes of a page and of all that it loads, as they lie on the disk (a server compresses them)."""
    paths = {page, *(path for pattern in SEARCH for path in site.glob(pattern))}
    for address in loaded(page):
        path = address.partition("?")[0].partition("#")[0]
        paths.add((site / path.lstrip("/") if path.startswith("/") else page.parent / path).resolve())
    return sum(path.stat().st_size for path in paths if path.is_file())
