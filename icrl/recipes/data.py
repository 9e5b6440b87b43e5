"""The pretraining data of a recipe: contexts made as training goes, or histories collected, filtered and cut.

Training seed s sees the same tasks and draws whatever the variant, as far as its settings allow. Histories are stored
in the run folder once for every way of collecting them that its variants need.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import require
from icrl.core.registry import agents
from icrl.core.settings import flat
from icrl.core.types import Contexts, History
from icrl.datasets.contexts import (
    Batches,
    ContextGenerator,
    ContextSource,
    HeldContexts,
    MixedContexts,
    StoredContexts,
    store_contexts,
)
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_histories
from icrl.datasets.pooled import PooledHistories
from icrl.datasets.room_contexts import IndependentContexts, RolloutContexts
from icrl.datasets.windows import Windows, WindowSource
from icrl.envs._streams import Streams
from icrl.filters._selection import provenance_of, save_selection
from icrl.filters._table import HistoryTable
from icrl.recipes.parts import CONTEXTS, INDEPENDENT
from icrl.recipes.recipe import Recipe, source_agent
from icrl.storage.publish import make_folder

VALIDATION_CONTEXTS, VALIDATION_WINDOWS = 256, 128
BYTES = 64  # of a transition on the device, about
DEVICE_BYTES = 2**30  # of histories in compact dtypes: a larger set stays on disk, its windows are read from there


@dataclasses.dataclass(frozen=True, eq=False)
class OnlyHistories:
    """The histories of contexts alone, for objectives that predict what was done in them."""

    contexts: Callable[[int], Contexts]

    def __call__(self, step: int) -> History:
        """The histories of the batch at ``step``."""
        return self.contexts(step).history


def batches(recipe: Recipe, folder: Path, seed: int, train_seed: int, label: str = "") -> Callable[[int], Any]:
    """Training batches as a function of the step, for one variant and training seed.

    Args:
      recipe: of the variant.
      folder: of the run; histories are read from (and were collected) there.
      seed: of the run.
      train_seed: which of the recipe's training seeds.
      label: of the variant, under which the selection of its filter is written down.
    """
    if recipe.data.kind != CONTEXTS:
        return _windows(recipe, folder, seed, train_seed, label)
    together, pool, size = recipe.backbone.sequences_per_task, recipe.data.pool, recipe.fit.batch_size
    if recipe.data.folder:
        stored = StoredContexts.made_as(recipe.data.folder, _contexts_card(recipe, seed))
        count = stored.num_tasks // together
        made = Batches(stored, size, seed + train_seed, min(pool or count, count), recipe.data.shuffle, together)
    else:
        source = contexts_of(recipe, seed, f"pretrain/{train_seed}", together)
        if pool is not None and pool * together * recipe.context_steps * BYTES <= DEVICE_BYTES:
            source = HeldContexts.of(source, pool * together)
        made = Batches(source, size, seed, pool, recipe.data.shuffle, together)
    return OnlyHistories(made) if recipe.prediction.objective == "ad" else made


def held_out(recipe: Recipe, folder: Path, seed: int, train_seed: int = 0) -> Any:
    """A batch that no model is trained on: contexts of other tasks, or windows of a stream of their own."""
    if recipe.data.kind != CONTEXTS:
        windows = _windows(recipe, folder, seed, train_seed, "")
        return dataclasses.replace(windows, batch_size=VALIDATION_WINDOWS, seed=(seed, train_seed, 2), task=None)(0)
    made = contexts_of(recipe, seed, "validation", held_out=True).fetch(np.arange(VALIDATION_CONTEXTS))
    return made.history if recipe.prediction.objective == "ad" else made


# --- contexts ---


def contexts_of(recipe: Recipe, seed: int, purpose: str, together: int = 1, held_out: bool = False) -> ContextSource:
    """The stream of contexts of one purpose, those of several sources in turn, ``together`` of each task in a row."""
    made = {name: _contexts_by(recipe, name, seed, purpose, together, held_out) for name in recipe.sources}
    return next(iter(made.values())) if len(made) == 1 else MixedContexts(tuple(made[name] for name in recipe.sources))


def _contexts_by(recipe: Recipe, source: str, seed: int, purpose: str, together: int, held_out: bool) -> ContextSource:
    env, steps = recipe.env, recipe.context_steps
    skipped = recipe.data.skip_episodes * recipe.episode
    drawn = recipe.prediction.objective == "ad" and recipe.task_ids is None and source != INDEPENDENT
    if drawn or env.spec.is_stationary_bandit:  # no labels, or one that serves all prefixes
        return ContextGenerator(env, source_agent(env, source, steps), steps, seed, purpose, together)
    ids = None if recipe.task_ids is None else np.asarray(recipe.task_ids[held_out])
    num_queries = 1 if recipe.layout.num_prompt else steps + 1
    asked = steps, seed, purpose, False, num_queries
    if source == INDEPENDENT:
        return IndependentContexts(env, ids, *asked, sequences_per_task=together)
    agent, data = source_agent(env, source, steps + skipped), recipe.data
    return RolloutContexts(
        env, ids, *asked, data.elsewhere, data.skip_episodes, sequences_per_task=together, source=agent
    )


# --- histories ---


def collect_histories(recipe: Recipe, folder: Path, seed: int) -> None:
    """Collect the histories that ``recipe`` is trained on, as far as they are not in the run's ``folder`` yet."""
    for name, part in _parts(recipe).items():
        if not (name == "source" and recipe.data.folder):
            store_part(recipe, _stored(recipe, folder, name), part, seed, len(_train_ids(recipe)))


def source_histories(recipe: Recipe, folder: Path) -> StoredHistories:
    """The source's histories of a run that has been collected."""
    return StoredHistories(_stored(recipe, folder, "source"), verify=False)


def collect(recipe: Recipe, folder: Path, seed: int, num_tasks: int) -> None:
    """Store the data of the first ``num_tasks`` tasks of training seed 0 in ``folder``, the source's alone."""
    if recipe.data.kind == CONTEXTS:
        together = recipe.backbone.sequences_per_task
        contexts = contexts_of(recipe, seed, "pretrain/0", together)
        store_contexts(folder, contexts, num_tasks, _contexts_card(recipe, seed))
    else:
        store_part(recipe, folder, _parts(recipe)["source"], seed, num_tasks)


def check_stored(recipe: Recipe, seed: int) -> None:
    """Raise ``InputError`` for stored data that were made with other settings than the recipe's."""
    if not recipe.data.folder:
        return
    if recipe.data.kind == CONTEXTS:
        StoredContexts.made_as(recipe.data.folder, _contexts_card(recipe, seed))
        return
    card = StoredHistories(recipe.data.folder).card
    expected = {**_part_card(recipe, _parts(recipe)["source"]), "num_steps": recipe.history_steps}
    expected |= {"task_ids": [int(number) for number in _train_ids(recipe)], "episode_steps": recipe.segment}
    wrong = sorted(name for name, value in json.loads(json.dumps(expected)).items() if card.get(name) != value)
    require(not wrong, "data", recipe.data.folder, f"histories of this experiment; {', '.join(wrong)} differ")


def store_part(recipe: Recipe, folder: Path, part: Part, seed: int, num_tasks: int) -> None:
    """Write what ``part`` does in the first ``num_tasks`` training tasks under ``folder``."""
    ids = np.asarray(_train_ids(recipe)[:num_tasks])
    made = HistoryGenerator(recipe.env, (part,), recipe.history_steps, ids, seed, _drawn(recipe))
    store_histories(folder, made, {**_part_card(recipe, part), "seed": seed}, recipe.segment)


def _train_ids(recipe: Recipe) -> range | tuple[int, ...]:
    if recipe.task_ids is None:
        return range(recipe.data.train_tasks)
    return recipe.task_ids[0][: recipe.data.train_tasks]


def _env_card(recipe: Recipe) -> dict[str, Any]:
    return {"id": recipe.env.name, **flat(recipe.env)}


def _part_card(recipe: Recipe, part: Part) -> dict[str, Any]:
    """What made a set of histories, but for the seed."""
    made_by = {"source": type(part.source).__name__, "streams": part.shared, "histories": part.num_histories}
    return {"env": _env_card(recipe), **made_by, "drawn": _drawn(recipe)}


def _contexts_card(recipe: Recipe, seed: int) -> dict[str, Any]:
    """What made a set of contexts."""
    data = recipe.data
    card = {
        "env": _env_card(recipe),
        "source": list(recipe.sources),
        "seed": seed,
        "num_steps": recipe.context_steps,
        "sequences_per_task": recipe.backbone.sequences_per_task,
    }
    if recipe.env.spec.is_stationary_bandit:
        return card
    asked = {"elsewhere": data.elsewhere, "skip_episodes": data.skip_episodes}
    return {
        **card,
        **asked,
        "objective": recipe.prediction.objective,
        "task_ids": recipe.task_ids and recipe.task_ids[0],
    }


def _drawn(recipe: Recipe) -> str:
    """The stream of tasks that have histories; empty where the family numbers them."""
    return "" if recipe.task_ids is not None else "pretrain/task"


def _num_random(recipe: Recipe) -> int:
    return round(recipe.data.noisy_fraction * recipe.data.histories)


def _parts(recipe: Recipe) -> dict[str, Part]:
    """The source's histories and, where the data are noisy, a uniform player's."""
    (name,), data = recipe.sources, recipe.data
    env = Streams(recipe.env, data.histories) if data.streams else recipe.env
    parts = {"source": Part(source_agent(env, name), data.histories, data.streams)}
    if _num_random(recipe):
        parts["random"] = Part(agents["uniform"].for_env(recipe.env), _num_random(recipe))
    return parts


def _stored(recipe: Recipe, folder: Path, part: str) -> Path:
    """Where a part's histories are: the same place for all variants of a run that need the same ones."""
    if part == "source" and recipe.data.folder:
        return Path(recipe.data.folder)
    data, ids = recipe.data, [int(number) for number in _train_ids(recipe)]
    source: Any = list(recipe.sources) if part == "source" else _num_random(recipe)
    how = json.dumps([source, data.histories, recipe.history_steps, data.streams, recipe.segment, ids])
    return folder / "data" / f"{part}-{hashlib.sha256(how.encode()).hexdigest()[:8]}"


def union(recipe: Recipe, folder: Path) -> tuple[HistoryTable, WindowSource, str]:
    """Returns and transitions of the recipe's histories, random players in place of the last of each task; a digest."""
    stored = {name: StoredHistories(_stored(recipe, folder, name)) for name in _parts(recipe)}
    random = _num_random(recipe)
    counts = {"source": recipe.data.histories - random, "random": random}
    pooled = PooledHistories(
        tuple((stored[name], count) for name, count in counts.items() if count), recipe.data.keep_every
    )
    source = pooled.on_device() if pooled.nbytes <= DEVICE_BYTES else pooled
    return pooled.table(), source, "+".join(stored[name].digest for name in sorted(stored))


def _windows(recipe: Recipe, folder: Path, seed: int, train_seed: int, label: str) -> Windows:
    """Windows of the histories that the filter keeps; which those are is written down under ``label``."""
    table, source, digest = union(recipe, folder)
    data, rule = recipe.data, recipe.data.rule
    chosen = rule.select(table, np.random.default_rng([seed, train_seed, 0]))
    if label:
        path = folder / "data" / f"selection-{label}-{train_seed}.json"
        make_folder(path.parent)
        save_selection(path, chosen, provenance_of(data.filter, rule, table, seed, digest))
    stride = recipe.episode if recipe.forget == recipe.episode else 1
    first = -(-chosen.first_episode // data.keep_every) * recipe.segment
    first = np.minimum(first, source.shape[1] - recipe.context_steps)
    task = table.task if recipe.backbone.sequences_per_task == 2 else None
    return Windows(
        source, chosen.index, recipe.context_steps, recipe.fit.batch_size, (seed, train_seed, 1), stride, first, task
    )
