"""What models are worth where there is no environment to play in: their loss on histories that none was trained on.

The floor of that loss, what the source's own choices cost whoever knows its rule, is unknown; beside it stand what two
guesses cost that read no history.
"""

from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.types import History
from icrl.datasets.windows import windows_at
from icrl.evaluation.offline import model_cross_entropy
from icrl.evaluation.statistics import Interval, interval
from icrl.models._token_policy import Policy
from icrl.recipes.data import RunData, source_histories
from icrl.recipes.measure import filter_tables
from icrl.recipes.recipe import Recipe
from icrl.recipes.recorded import split_rows

Groups = dict[str, tuple[Recipe, list[Policy]]]  # by label of a variant: its recipe, and a policy for each seed
EACH, MOST = 8, 1024  # windows of a held-out history, and of all


def held_out_sections(groups: Groups, folder: Path, seed: int) -> dict[str, Any]:
    """The sections of the results: cross-entropy by prefix of the first variant, and a table of all."""
    label, (recipe, _) = next(iter(groups.items()))
    windows, units = held_out_windows(recipe, folder, seed)
    losses = {name: _losses(each, own, windows, units) for name, (each, own) in groups.items()}
    count, steps = losses[label].shape[1:]
    over = f"{count:,} held-out {'histories' if recipe.task_ids is None else 'tasks'}"
    at = np.unique(np.concatenate([[0, steps - 1], np.geomspace(1, steps - 1, 24).round()]).astype(int))
    guesses = _guesses(recipe, folder, windows, units)
    tables = [_table(losses, guesses, over)]
    tables += filter_tables({name: each for name, (each, _) in groups.items()}, folder, seed)
    ours = ", ".join(f"{name} {_in_words(interval(values.mean(-1)))}" for name, values in losses.items())
    others = ", ".join(f"{name} {float(values.mean()):.3f}" for name, values in guesses.items())
    return {
        "claim": f"Cross-entropy of the recorded action in {over}, nats: {ours}; {others}. There is no environment "
        f"of {recipe.env.name} to play in, and the least that can be reached is unknown.",
        "num_tasks": count,
        "num_steps": steps,
        "online": None,
        "episodes": None,
        "cross_entropy": {
            "prefix": at.tolist(),
            "model": interval(losses[label][..., at]).band(),
            "ideal": None,
            "gap": None,
            "num_tasks": count,
            "what": "the recorded action",
            "over": over,
        },
        "tables": tables,
        "checks": [],
    }


def held_out_windows(recipe: Recipe, folder: Path, seed: int) -> tuple[History, np.ndarray]:
    """Windows [B, C, ...], evenly spread over the held-out histories, and the number of the task of each [B].

    Where single histories are held out, not tasks, each of them has a number of its own.
    """
    table, source, _ = RunData(folder, seed).union(recipe)
    rows = split_rows(recipe, len(table.task))[1]
    last = source.shape[1] - recipe.context_steps
    each = max(1, min(EACH, last // recipe.context_steps + 1, MOST // len(rows)))
    if len(rows) > MOST:
        rows = rows[np.linspace(0, len(rows) - 1, MOST).round().astype(int)]
    starts = np.linspace(0, last, each).round().astype(np.int64)
    all_rows, all_starts = np.repeat(rows, each), np.tile(starts, len(rows))
    units = all_rows if recipe.task_ids is None else all_rows // recipe.data.histories
    return windows_at(source, all_rows, all_starts, recipe.context_steps), np.unique(units, return_inverse=True)[1]


def _losses(recipe: Recipe, policies: list[Policy], windows: History, units: np.ndarray) -> np.ndarray:
    """Cross-entropy [S, U, C] of S policies, a mean over the windows of each of U tasks."""
    return np.stack([_by_unit(model_cross_entropy(recipe.objective(), own, windows), units) for own in policies])


def _by_unit(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Means [U, ...] of ``values`` [B, ...] with the same unit [B]."""
    total = np.zeros((units.max() + 1, *values.shape[1:]))
    np.add.at(total, units, values)
    return total / np.bincount(units).reshape(-1, *(1 for _ in values.shape[1:]))


def _guesses(recipe: Recipe, folder: Path, windows: History, units: np.ndarray) -> dict[str, np.ndarray]:
    """Loss [U] of guessing every action alike, and each as often as it stands in the training histories."""
    num_actions, stored = recipe.env.num_actions, source_histories(recipe, folder)
    is_training = np.zeros(stored.num_tasks * stored.num_histories, bool)
    is_training[split_rows(recipe, len(is_training))[0]] = True
    counts, low = np.ones(num_actions), 0
    for shard in stored.shards():
        action = shard["action"].reshape(-1, stored.num_steps)
        counts += np.bincount(action[is_training[low : low + len(action)]].reshape(-1), minlength=num_actions)
        low += len(action)
    often = -np.log(counts / counts.sum())[np.asarray(windows.action)].mean(1)
    return {
        "actions as often as in training": _by_unit(often, units),
        "all actions alike": np.full(units.max() + 1, np.log(num_actions)),
    }


def _table(losses: dict[str, np.ndarray], guesses: dict[str, np.ndarray], over: str) -> dict[str, Any]:
    """Mean loss of everybody, and of models that over the first and the last tenth of a window."""
    rows: list[list[Any]] = []
    for name, values in losses.items():
        tenth = max(1, values.shape[-1] // 10)
        parts = values.mean(-1), values[..., :tenth].mean(-1), values[..., -tenth:].mean(-1)
        rows.append([name, *(interval(part).band() for part in parts)])
    rows += [[name, interval(values).band(), "-", "-"] for name, values in guesses.items()]
    return {
        "title": "Cross-entropy of the recorded action, nats",
        "columns": ["model", "all of a window", "its first tenth", "its last tenth"],
        "rows": rows,
        "note": f"Means over {over}, which no model was trained on. 95 % intervals over them. "
        "The least that can be reached is unknown.",
    }


def _in_words(value: Interval) -> str:
    return f"{float(value.mean):.3f} [{float(value.low):.3f}, {float(value.high):.3f}]"
