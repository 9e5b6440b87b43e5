"""Variants of a recipe: ``NAME=a,b,c`` changes one setting, several of them make the grid of all combinations."""

import itertools
from collections.abc import Sequence
from typing import Any

from icrl.core.errors import InputError, near_names, require
from icrl.core.settings import chosen, leaves, parsed

LIMIT = 64  # variants of a grid, unless the user says --yes
FIXED = (
    "vary",
    "train_seeds",
    "eval_tasks",
    "rollouts_per_task",
    "eval_steps",
    "competitors",
    "env",
)  # the same for all


def check_vary(vary: Sequence[str]) -> None:
    """Raise ``InputError`` for what is not NAME=a,b,c with at least two different values, or a name given twice."""
    names = []
    for each in vary:
        name, values = split_vary(each)
        require(len(values) >= 2, "vary", each, "NAME=a,b,c with at least two values")
        require(len(set(values)) == len(values), "vary", each, "different values")
        require(name not in names, "vary", each, f"{name} once")
        require(
            name not in FIXED, "vary", each, "a setting that variants may differ in", f"all share {', '.join(FIXED)}"
        )
        names.append(name)


def split_vary(text: str) -> tuple[str, list[str]]:
    """(setting, its values in words)."""
    name, equals, values = text.partition("=")
    require(bool(equals and name), "vary", text, "NAME=a,b,c")
    return name.strip().removeprefix("--").replace("-", "_"), [
        part.strip() for part in values.split(",") if part.strip()
    ]


def grid(recipe: Any, vary: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The changes of every variant by its label ("filter lhf, model s5").

    Raises:
      InputError: a name that is no setting of the recipe, or a value of another kind.
    """
    axes = [[(name, value) for value in values] for name, values in map(split_vary, vary)]
    return {
        ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in combination): _changes(recipe, combination)
        for combination in itertools.product(*axes)
    }


def _changes(recipe: Any, combination: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Values of the settings; a name that brings flags of its own (--model s5) may be followed by one of them."""
    known = leaves(chosen(recipe, dict(combination)))
    for name, _ in combination:
        if name not in known:
            raise InputError(f"vary: unknown setting {name!r}; {near_names(name, known)}")
    return {name: parsed(known[name], text) for name, text in combination}
