"""What models are worth where there is no environment to play in: their loss on histories that none was trained on.

The floor of that loss, what the source's own choices cost whoever knows its rule, is unknown; beside it stand what two
guesses cost that read no history.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icrl.core.types import Contexts, History
from icrl.datasets.contexts import StoredContexts
from icrl.datasets.histories import PROPENSITY
from icrl.datasets.store import StoredRecords
from icrl.datasets.windows import windows_at
from icrl.evaluation.off_policy import Log, logged_value, off_policy_value, table_of
from icrl.evaluation.offline import model_cross_entropy, model_probabilities
from icrl.evaluation.statistics import Interval, interval
from icrl.models._token_policy import Policy
from icrl.recipes.data import RunData
from icrl.recipes.measure import filter_tables
from icrl.recipes.parts import CONTEXTS
from icrl.recipes.recipe import Recipe
from icrl.recipes.recorded import opened, split_rows

Groups = dict[str, tuple[Recipe, list[Policy]]]  # by label of a variant: its recipe, and a policy for each seed
EACH, MOST = 8, 1024  # windows of a held-out history, and of all


def held_out_sections(groups: Groups, folder: Path, seed: int) -> dict[str, Any]:
    """The sections of the results: cross-entropy by prefix of the first variant, and a table of all."""
    label, (recipe, _) = next(iter(groups.items()))
    held_out = held_out_contexts(recipe) if recipe.data.kind == CONTEXTS else held_out_windows(recipe, folder, seed)
    losses = {name: _losses(each, own, *held_out[:2]) for name, (each, own) in groups.items()}
    count, steps = losses[label].shape[1:]
    single = "contexts" if recipe.data.kind == CONTEXTS else "histories"
    over = f"{count:,} held-out {single if recipe.task_ids is None else 'tasks'}"
    what = "the label" if recipe.data.kind == CONTEXTS else "the recorded action"
    at = np.unique(np.concatenate([[0, steps - 1], np.geomspace(1, steps - 1, 24).round()]).astype(int))
    guesses = _guesses(recipe, held_out)
    tables = [_table(what, losses, guesses, over), *_off_policy_tables(groups, held_out)]
    tables += filter_tables({name: each for name, (each, _) in groups.items()}, folder, seed)
    ours = ", ".join(f"{name} {_in_words(interval(values.mean(-1)))}" for name, values in losses.items())
    others = ", ".join(f"{name} {float(values.mean()):.3f}" for name, values in guesses.items())
    return {
        "claim": f"Cross-entropy of {what} in {over}, nats: {ours}; {others}. There is no environment "
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
            "what": what,
            "over": over,
        },
        "tables": tables,
        "checks": [],
    }


class HeldOut(NamedTuple):
    """B windows of C steps, or contexts, that no model was trained on."""

    windows: History | Contexts  # [B, C, ...]
    units: np.ndarray  # [B] numbers of their tasks, or where single histories are held out of those
    rows: np.ndarray  # [B] of the set, and
    starts: np.ndarray  # [B] their first steps


def held_out_windows(recipe: Recipe, folder: Path, seed: int) -> HeldOut:
    """Windows evenly spread over the held-out histories."""
    table, source, _ = RunData(folder, seed).union(recipe)
    rows = split_rows(recipe, len(table.task))[1]
    last = source.shape[1] - recipe.context_steps
    each = max(1, min(EACH, last // recipe.context_steps + 1, MOST // len(rows)))
    if len(rows) > MOST:
        rows = rows[np.linspace(0, len(rows) - 1, MOST).round().astype(int)]
    starts = np.linspace(0, last, each).round().astype(np.int64)
    all_rows, all_starts = np.repeat(rows, each), np.tile(starts, len(rows))
    units = all_rows if recipe.task_ids is None else all_rows // recipe.data.histories
    windows, units = (
        windows_at(source, all_rows, all_starts, recipe.context_steps),
        np.unique(units, return_inverse=True)[1],
    )
    return HeldOut(windows, units, all_rows, all_starts)


def held_out_contexts(recipe: Recipe) -> HeldOut:
    """The held-out contexts of an imported set, at most ``MOST`` of them."""
    stored = StoredContexts(recipe.data.folder, verify=False)
    rows = split_rows(recipe, stored.num_tasks)[1][:MOST]
    units = rows if recipe.task_ids is None else rows // recipe.data.histories
    return HeldOut(stored.fetch(rows), np.unique(units, return_inverse=True)[1], rows, np.zeros_like(rows))


def _losses(recipe: Recipe, policies: list[Policy], windows: History | Contexts, units: np.ndarray) -> np.ndarray:
    """Cross-entropy [S, U, C] of S policies, a mean over the windows of each of U tasks."""
    return np.stack([_by_unit(model_cross_entropy(recipe.objective(), own, windows), units) for own in policies])


def _by_unit(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Means [U, ...] of ``values`` [B, ...] with the same unit [B]."""
    total = np.zeros((units.max() + 1, *values.shape[1:]))
    np.add.at(total, units, values)
    return total / np.bincount(units).reshape(-1, *(1 for _ in values.shape[1:]))


def _guesses(recipe: Recipe, held_out: HeldOut) -> dict[str, np.ndarray]:
    """Loss [U] of guessing every action alike, and each as often as it stands in the training data."""
    windows, units, num_actions = held_out.windows, held_out.units, recipe.env.num_actions
    stored: StoredRecords = opened(recipe.data.folder)
    field, predicted = ("label", windows.label) if isinstance(windows, Contexts) else ("action", windows.action)
    counts, low = np.ones(num_actions), 0
    per_task = int(np.prod(stored.fields[field]["shape"][:-1]))  # rows of a record
    is_training = np.zeros(stored.num_tasks * per_task, bool)
    is_training[split_rows(recipe, len(is_training))[0]] = True
    for shard in stored.shards():
        rows = shard[field].reshape(-1, shard[field].shape[-1])
        counts += np.bincount(rows[is_training[low : low + len(rows)]].reshape(-1), minlength=num_actions)
        low += len(rows)
    often = -np.log(counts / counts.sum())[np.asarray(predicted)].mean(1)
    return {
        "actions as often as in training": _by_unit(often, units),
        "all actions alike": np.full(units.max() + 1, np.log(num_actions)),
    }


def _table(what: str, losses: dict[str, np.ndarray], guesses: dict[str, np.ndarray], over: str) -> dict[str, Any]:
    """Mean loss of everybody, and of models that over the first and the last tenth of a window."""
    rows: list[list[Any]] = []
    for name, values in losses.items():
        tenth = max(1, values.shape[-1] // 10)
        parts = values.mean(-1), values[..., :tenth].mean(-1), values[..., -tenth:].mean(-1)
        rows.append([name, *(interval(part).band() for part in parts)])
    rows += [[name, interval(values).band(), "-", "-"] for name, values in guesses.items()]
    return {
        "title": f"Cross-entropy of {what}, nats",
        "columns": ["model", "all of a window", "its first tenth", "its last tenth"],
        "rows": rows,
        "note": f"Means over {over}, which no model was trained on. 95 % intervals over them. "
        "The least that can be reached is unknown.",
    }


def _off_policy_tables(groups: Groups, held_out: HeldOut) -> list[dict[str, Any]]:
    """What the first model of each variant would have earned, where the data are a log with propensities."""
    recipe = next(iter(groups.values()))[0]
    stored = opened(recipe.data.folder)
    if PROPENSITY not in stored.fields or isinstance(held_out.windows, Contexts):
        return []
    steps = held_out.starts[:, None] + np.arange(held_out.windows.action.shape[1])
    task, place = np.divmod(held_out.rows[:, None], recipe.data.histories)
    chance = stored.read(task, place, steps)[PROPENSITY]
    seen = np.asarray(held_out.windows.obs).reshape(chance.size, -1)
    action, reward = (np.asarray(field).reshape(-1) for field in (held_out.windows.action, held_out.windows.reward))
    log, num_actions = Log(seen, action, reward, chance.reshape(-1)), recipe.env.num_actions
    values = {}
    for label, (each, policies) in groups.items():
        given = model_probabilities(each.objective(), policies[0], held_out.windows)
        values[label] = off_policy_value(log, given.reshape(-1, num_actions))
    values["all actions alike"] = off_policy_value(log, np.full((chance.size, num_actions), 1 / num_actions))
    note = "On held-out rows. A model chooses on the logged decisions of its window, not on its own."
    return [table_of(values, logged_value(log), note)]


def _in_words(value: Interval) -> str:
    return f"{float(value.mean):.3f} [{float(value.low):.3f}, {float(value.high):.3f}]"
