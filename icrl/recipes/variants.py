"""Variants of a recipe: ``NAME=a,b,c`` changes one setting, several of them make the grid of all combinations.

Settings that change together are joined: ``objective+source=ad:ucb,dpt:uniform`` makes two variants.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from icrl.core.errors import InputError, near_names, require
from icrl.core.settings import chosen, leaves, parsed

# What all variants share, as they are compared in the same held-out tasks and on the same draws: these settings and
# those of the environment.
SHARED = (
    "vary",
    "train_seeds",
    "train_fraction",
    "split_seed",
    "eval_tasks",
    "rollouts_per_task",
    "eval_steps",
    "competitors",
    "offline_competitors",
    "offline_tasks",
)


def check_vary(vary: Sequence[str]) -> None:
    """Raise ``InputError`` for what is not NAME=a,b,c with at least two different values, or a name given twice."""
    names: list[str] = []
    for each in vary:
        joined, values = split_vary(each)
        require(len(values) >= 2, "vary", each, "NAME=a,b,c with at least two values")
        require(len(set(values)) == len(values), "vary", each, "different values")
        for name in joined:
            require(name not in names, "vary", each, f"{name} once")
            names.append(name)


def split_vary(text: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(settings that change together, the values of each variant in words)."""
    form = "NAME=a,b,c, or NAME+NAME=a:b,c:d"
    left, equals, right = text.partition("=")
    names = tuple(name.strip().removeprefix("--").replace("-", "_") for name in left.split("+"))
    require(bool(equals) and all(names), "vary", text, form)
    values = [tuple(value.strip().split(":")) if len(names) > 1 else (value.strip(),) for value in right.split(",")]
    values = [value for value in values if value != ("",)]
    require(all(len(value) == len(names) for value in values), "vary", text, form)
    return names, values


def grid(recipe: Any, vary: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The changes of every variant by its label ("filter lhf, model s5").

    Raises:
      InputError: a name that is no setting of the recipe, or a value of another kind.
    """
    axes = [[list(zip(names, value, strict=True)) for value in values] for names, values in map(split_vary, vary)]
    combinations = [list(itertools.chain(*each)) for each in itertools.product(*axes)]
    return {label_of(each): _changes(recipe, each) for each in combinations}


def label_of(combination: Sequence[tuple[str, str]]) -> str:
    """A variant in words."""
    return ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in combination)


def _changes(recipe: Any, combination: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Values of the settings; a name that brings flags of its own (--model s5) may be followed by one of them."""
    known = leaves(chosen(recipe, dict(combination)))
    for name, _ in combination:
        if name not in known:
            raise InputError(f"vary: unknown setting {name!r}; {near_names(name, known)}")
        own = name not in SHARED and known[name].part != "env"
        require(own, "vary", name, "a setting that variants may differ in", "all share this one")
    return {name: parsed(known[name], text) for name, text in combination}
