"""What a finished experiment says: the schema of ``results.json``, and its sections in the order of the report.

Everything in the report, the figures and TensorBoard is drawn from this one document, so a number that is not in
``results.json`` is nowhere. A new section is a file in ``sections/``, a key of ``Results`` and a place in ``SECTIONS``.
"""

from collections.abc import Iterator
from typing import Any, NotRequired

from icrl.reports.section import Figure, Head, Number, Section, Table
from icrl.reports.sections import (
    checks,
    cross_entropy,
    diversity,
    episodes,
    maps,
    offline,
    online,
    published,
    routing,
    settings,
    strategies,
    tables,
    training,
    worlds,
)

SCHEMA = 1


class Results(Head):
    """The whole document. Sections an experiment does not have are absent or None."""

    checks: list[checks.Check]
    worlds: NotRequired[dict[str, worlds.World] | None]  # by the environment's name
    episodes: NotRequired[episodes.Episodes | None]
    online: NotRequired[online.Online | None]
    offline: NotRequired[offline.Offline | None]
    cross_entropy: NotRequired[cross_entropy.CrossEntropy | None]
    diversity: NotRequired[diversity.Diversity | None]
    strategies: NotRequired[strategies.Strategies | None]
    maps: NotRequired[maps.Maps | None]
    tables: NotRequired[list[tables.Numbers] | None]
    training: NotRequired[dict[str, training.Training] | None]  # by training seed, or means over seeds by model
    routing: NotRequired[list[routing.Routing] | None]  # of the first model
    published: NotRequired[list[published.Published] | None]
    env: dict[str, Any]  # {"id": ..., settings ...}


_IN_ORDER = (
    *(checks, worlds, episodes, online, offline, cross_entropy, diversity, strategies, maps, tables, training),
    *(routing, published),
)
SECTIONS: tuple[Section, ...] = tuple(module.SECTION for module in (*_IN_ORDER, settings))


def contents(results: Results) -> list[list[Table | Figure]]:
    """What each section of ``results`` shows, in the order of the report; sections that show nothing are left out."""
    shown = [list(section.show(results[section.key], results)) for section in SECTIONS if results.get(section.key)]  # type: ignore[literal-required]
    return [items for items in shown if items]


def numbers(results: Results) -> Iterator[Number]:
    """Every number of ``results``, in the order of the report."""
    of_document = str(results["env"].get("id", ""))
    for section in SECTIONS:
        if section.numbers and results.get(section.key):
            for number in section.numbers(results[section.key], results):  # type: ignore[literal-required]
                yield number if number.env else number._replace(env=of_document)
