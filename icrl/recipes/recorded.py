"""Recipes on data that somebody else recorded: their settings follow from the card, some histories are held out.

Where the environment of the data is registered here, ``--env`` names it, and models are evaluated in it as always;
else there is nothing to play in, and they are judged by what they predict of histories that they never saw.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import InputError, require
from icrl.core.settings import flat
from icrl.datasets.contexts import StoredContexts
from icrl.datasets.histories import RECORDED, StoredHistories, is_foreign, recorded_environment
from icrl.datasets.store import CARD, StoredRecords
from icrl.envs._splits import SPLITS
from icrl.recipes.parts import BY_TIME, CONTEXTS, HISTORIES
from icrl.recipes.recipe import Recipe

Rows = np.ndarray
Stored = StoredContexts | StoredHistories


def recorded_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the card of imported histories says of the settings of a recipe; {} if ``values`` name none.

    Its environment, unless they name one, and the number and length of the histories.
    """
    folder = values.get("data")
    if not isinstance(folder, str) or folder in (CONTEXTS, HISTORIES, ""):
        return {}
    path = Path(folder).expanduser()
    if not (path / CARD).is_file() or not is_foreign(StoredRecords(path, verify=False).card):
        return {}
    stored = opened(path)
    told = _facts(stored)
    return told if "env" in values else {**told, "env": RECORDED, **flat(recorded_environment(stored.card, folder))}


def opened(path: Path | str) -> Stored:
    """The contexts or histories in a folder of `icrl import`."""
    has_queries = "query" in StoredRecords(path, verify=False).fields
    return StoredContexts(path, verify=False) if has_queries else StoredHistories(path, verify=False)


def _facts(stored: Stored) -> dict[str, Any]:
    """The settings of a recipe that a foreign set decides; "histories" are the contexts of a task too."""
    if isinstance(stored, StoredHistories):
        return {
            "histories": stored.num_histories,
            "history_steps": stored.num_steps,
            "segment": stored.card["episode_steps"],
            "train_tasks": stored.num_tasks,
        }
    each = stored.card["each"]
    return {"histories": each, "context_steps": stored.num_steps, "train_tasks": stored.num_tasks // each}


def check_recorded(recipe: Recipe, stored: Stored) -> None:
    """Raise ``InputError`` unless the recipe is one for the foreign contexts or histories ``stored``."""
    where = recipe.data.folder
    theirs, ours = recorded_environment(stored.card, where).spec, recipe.env.spec
    for field in ("num_actions", "action_box", "obs_shape"):
        found, wanted = getattr(theirs, field), getattr(ours, field)
        require(found == wanted, "env", recipe.env.name, f"one with the {field} of {where}: {found}, not {wanted}")
    for name, value in _facts(stored).items():
        found = getattr(recipe.data, name)
        require(found == value, name, found, f"{value}, as {where} has", "leave it out: the card tells it")
    together = recipe.backbone.sequences_per_task
    pairs = isinstance(stored, StoredHistories) or recipe.data.histories % together == 0
    require(pairs, "moe", f"{together} contexts of a task side by side", f"a set with a multiple of {together} of each")
    if recipe.env.is_recorded:
        rows = stored.num_tasks * (stored.num_histories if isinstance(stored, StoredHistories) else 1)
        train, held_out = split_rows(recipe, rows)
        few = f"{len(train)} for training, {len(held_out)} held out"
        hint = "import shorter histories, or change --train-fraction"
        require(len(held_out) >= 2, "histories", few, "at least two held out", hint)


def check_unplayed(recipe: Recipe) -> None:
    """Raise ``InputError`` for settings of a recipe that need its environment, of which there are records alone."""
    env = recipe.env.name
    foreign = recipe.data.is_foreign
    require(foreign, "data", recipe.data.data, f"a folder of `icrl import`: {env} is known from records alone")
    require(not recipe.is_reinforced, "objective", "rl2", "ad", f"nobody can act in {env}, its records are all")
    order, hint = recipe.data.context_order, "models are judged there by windows of what was recorded"
    require(order == BY_TIME, "context_order", order, BY_TIME, hint)
    for name, plain in (("noisy_fraction", 0.0), ("source", ()), ("label", "")):
        found = getattr(recipe.data, name)
        require(found == plain, name, found, f"{plain or 'none'}: nothing is collected in {env}")
    require(recipe.evaluation.tune == "none", "tune", recipe.evaluation.tune, f"none: nobody plays in {env}")
    require(not recipe.evaluation.given, "given", recipe.evaluation.given, f"none: nobody plays in {env}")


def split_rows(recipe: Recipe, num_rows: int) -> tuple[Rows, Rows]:
    """The rows of histories or contexts for training and those held out, ``num_rows`` in all, task after task.

    Whole tasks are held out, by their places in the set, where there are enough to split; else single histories.
    """
    if recipe.task_ids is not None:
        place = np.arange(num_rows) // recipe.data.histories
        train, held_out = (np.flatnonzero(np.isin(place, ids)) for ids in recipe.task_ids)
        return train, held_out
    data = recipe.data
    try:
        chosen = SPLITS[data.split](num_rows, data.train_fraction, data.split_seed)
    except InputError as refusal:
        hint = "import shorter histories: --history-steps"
        raise InputError(f"histories: got {num_rows}, allowed: enough to hold some out ({refusal}); {hint}") from None
    return np.sort(chosen[0]), np.sort(chosen[1])
