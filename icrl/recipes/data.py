"""The pretraining data of a recipe: contexts made as training goes, or histories collected, filtered and cut.

Training seed s sees the same tasks and draws whatever the variant, as far as its settings allow. Histories are stored
in the run folder once for every way of collecting them that its variants need.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import require, require_int
from icrl.core.registry import agents
from icrl.core.settings import flat
from icrl.core.tasks import TaskSet
from icrl.core.types import Contexts, History
from icrl.datasets.contexts import (
    Batches,
    ChosenContexts,
    ContextGenerator,
    ContextSource,
    HeldContexts,
    MixedContexts,
    StoredContexts,
    store_contexts,
)
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_collected
from icrl.datasets.pooled import PooledHistories
from icrl.datasets.room_contexts import IndependentContexts, RolloutContexts, RoomContexts
from icrl.datasets.sorted_windows import SortedWindows
from icrl.datasets.store import CARD
from icrl.datasets.windows import Windows, WindowSource
from icrl.envs._streams import Streams
from icrl.filters._effect import Effect, effects
from icrl.filters._selection import provenance_of, save_selection
from icrl.filters._table import HistoryTable, Selection
from icrl.recipes.agent_names import agent_of
from icrl.recipes.competitors import UNIFORM
from icrl.recipes.parts import BY_RETURN, CONTEXTS, HISTORIES, INDEPENDENT
from icrl.recipes.preflight import check_disk
from icrl.recipes.recipe import Recipe
from icrl.recipes.recorded import check_recorded, opened, split_rows
from icrl.storage.publish import make_folder

_log = logging.getLogger("icrl")
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


Union = tuple[HistoryTable, WindowSource, str]  # returns and transitions of histories, and a digest of all of them


@dataclasses.dataclass(frozen=True, eq=False)
class RunData:
    """The data of one run in its ``folder``; stored histories are read once for all models that share them."""

    folder: Path
    seed: int
    _unions: dict[tuple[Any, ...], Union] = dataclasses.field(default_factory=dict)

    def batches(self, recipe: Recipe, train_seed: int, label: str = "") -> Callable[[int], Any]:
        """Training batches as a function of the step, for one variant and training seed.

        Args:
          recipe: of the variant.
          train_seed: which of the recipe's training seeds.
          label: of the variant, under which the selection of its filter is written down; "": nowhere.
        """
        if recipe.data.kind != CONTEXTS:
            return self._windows(recipe, train_seed, label)
        together, pool, size = recipe.backbone.sequences_per_task, recipe.data.pool, recipe.fit.batch_size
        if recipe.data.folder:
            stored, rows = self._stored_contexts(recipe)
            count = rows // together
            shuffle, pool = recipe.data.shuffle, min(pool or count, count)
            made = Batches(stored, size, self.seed + train_seed, pool, shuffle, together)
        else:
            source = contexts_of(recipe, self.seed, f"pretrain/{train_seed}", together)
            if pool is not None and pool * together * recipe.context_steps * BYTES <= DEVICE_BYTES:
                source = HeldContexts.of(source, pool * together)
            made = Batches(source, size, self.seed, pool, recipe.data.shuffle, together)
        return made if recipe.needs_labels else OnlyHistories(made)

    def held_out(self, recipe: Recipe, train_seed: int = 0, together: int = 1) -> Any:
        """A batch that no model is trained on: contexts of other tasks, or windows of a stream of their own.

        With ``together`` 2 its rows 2i and 2i + 1 are of one task and others of another, but for recorded contexts.
        """
        if recipe.data.kind != CONTEXTS:
            windows, seed = self._windows(recipe, train_seed), (self.seed, train_seed, 2)
            if recipe.env.is_recorded:  # of histories that no model is trained on
                index = split_rows(recipe, len(self.union(recipe)[0].task))[1]
                windows = dataclasses.replace(windows, index=index, first=None)
            task, size = None, VALIDATION_WINDOWS
            if together == 2:
                task = self.union(recipe)[0].task
                size = min(size, 2 * len(np.unique(task[windows.index])))
            return dataclasses.replace(windows, batch_size=size, seed=seed, task=task)(0)
        if recipe.env.is_recorded:
            stored = StoredContexts(recipe.data.folder, verify=False)
            rows = split_rows(recipe, stored.num_tasks)[1]
            made = stored.fetch(rows[:VALIDATION_CONTEXTS])
            return made if recipe.needs_labels else made.history
        made = contexts_of(recipe, self.seed, "validation", together, True).fetch(np.arange(VALIDATION_CONTEXTS))
        return made if recipe.needs_labels else made.history

    def _stored_contexts(self, recipe: Recipe) -> tuple[ContextSource, int]:
        """The stored contexts that a recipe is trained on, and how many they are."""
        if not recipe.data.is_foreign:
            stored = StoredContexts.made_as(recipe.data.folder, _contexts_card(recipe, self.seed))
            return stored, stored.num_tasks
        everything = StoredContexts(recipe.data.folder)
        rows = np.arange(everything.num_tasks)
        rows = split_rows(recipe, len(rows))[0] if recipe.env.is_recorded else rows
        return ChosenContexts(everything, rows), len(rows)

    def union(self, recipe: Recipe) -> Union:
        """The recipe's histories, random players in place of the last of each task."""
        paths, counts = _counted(recipe, self.folder)
        known = (tuple(paths.items()), tuple(counts.items()), recipe.data.keep_every)
        if known not in self._unions:
            pooled, digest = _pooled(recipe, self.folder)
            source = pooled.on_device() if pooled.nbytes <= DEVICE_BYTES else pooled
            self._unions[known] = pooled.table(), source, digest
        return self._unions[known]

    def _windows(self, recipe: Recipe, train_seed: int, label: str = "") -> Windows:
        """Windows of the histories that the filter keeps, or their episodes in order of return."""
        table, source, digest = self.union(recipe)
        data, rule, seed = recipe.data, recipe.data.rule, self.seed
        chosen = _selection(recipe, table, seed, train_seed)
        if label:
            path = self.folder / "data" / f"selection-{label}-{train_seed}.json"
            make_folder(path.parent)
            save_selection(path, chosen, provenance_of(data.filter, rule, table, seed, digest))
        stride = recipe.episode if recipe.forget == recipe.episode else 1
        first = -(-chosen.first_episode // data.keep_every) * recipe.segment
        task = table.task if recipe.backbone.sequences_per_task == 2 else None
        draws, size = (seed, train_seed, 1), recipe.fit.batch_size
        asked = source, chosen.index, recipe.context_steps, size, draws, stride, first, task
        return SortedWindows(*asked, kin=table.task) if data.context_order == BY_RETURN else Windows(*asked)


def filter_effects(recipe: Recipe, folder: Path, seed: int) -> list[dict[str, Effect]]:
    """What the recipe's filter did to the data of each training seed of a run that has been collected.

    As ``filters._effect.effects``, over all episodes whatever ``keep_every`` leaves of them; and the "uniform player's
    share" of the histories, where the data are noisy.
    """
    table, found = _pooled(recipe, folder)[0].table(), []
    noisy = np.arange(len(table.task)) >= len(table.task) // recipe.data.histories * _num_source(recipe)
    for train_seed in range(recipe.train_seeds):
        chosen = _selection(recipe, table, seed, train_seed)
        share = Effect(float(noisy.mean()), float(noisy[chosen.index].mean()))
        found.append(effects(table, chosen) | ({"uniform player's share": share} if noisy.any() else {}))
    return found


def _selection(recipe: Recipe, table: HistoryTable, seed: int, train_seed: int) -> Selection:
    """What the filter keeps, where nothing else is held out of the rows that are for training."""
    draws = np.random.default_rng([seed, train_seed, 0])
    if not recipe.env.is_recorded:
        return recipe.data.rule.select(table, draws)
    rows = split_rows(recipe, len(table.task))[0]
    chosen = recipe.data.rule.select(HistoryTable(*(column[rows] for column in table)), draws)
    return chosen._replace(index=rows[chosen.index])


def _pooled(recipe: Recipe, folder: Path) -> tuple[PooledHistories, str]:
    """The recipe's histories on disk, and a digest of all of them."""
    paths, counts = _counted(recipe, folder)
    stored = {name: StoredHistories(path) for name, path in paths.items()}
    parts = tuple((stored[name], count) for name, count in counts.items() if count)
    return PooledHistories(parts, recipe.data.keep_every), "+".join(stored[name].digest for name in sorted(stored))


def _counted(recipe: Recipe, folder: Path) -> tuple[dict[str, Path], dict[str, int]]:
    """Where the parts of the histories are, and how many of each task are taken of each."""
    paths = {name: _stored(recipe, folder, name) for name in _parts(recipe)}
    return paths, {"source": _num_source(recipe), "random": _num_random(recipe)}


# --- contexts ---


def contexts_of(recipe: Recipe, seed: int, purpose: str, together: int = 1, held_out: bool = False) -> ContextSource:
    """The stream of contexts of one purpose, those of several sources in turn, ``together`` of each task in a row."""
    made = {name: _contexts_by(recipe, name, seed, purpose, together, held_out) for name in recipe.sources}
    return next(iter(made.values())) if len(made) == 1 else MixedContexts(tuple(made[name] for name in recipe.sources))


def _contexts_by(recipe: Recipe, source: str, seed: int, purpose: str, together: int, held_out: bool) -> ContextSource:
    env, steps = recipe.env, recipe.context_steps
    skipped = recipe.data.skip_episodes * recipe.episode
    drawn = not recipe.needs_labels and recipe.task_ids is None and source != INDEPENDENT
    if drawn or (env.spec.is_stationary_bandit and not recipe.label):  # no labels, or one for all prefixes
        pool = None if held_out else recipe.data.task_pool
        return ContextGenerator(env, agent_of(env, source, steps), steps, seed, purpose, together, pool)
    ids = None if recipe.task_ids is None else np.asarray(recipe.task_ids[held_out])
    asked = steps, seed, purpose, _num_queries(recipe)
    if source == INDEPENDENT:
        return IndependentContexts(env, ids, *asked, sequences_per_task=together)
    agent, data = agent_of(env, source, steps + skipped), recipe.data
    labels = agent_of(env, recipe.label, steps) if recipe.label else None
    return RolloutContexts(
        env, ids, *asked, data.elsewhere, data.skip_episodes, sequences_per_task=together, source=agent, labels=labels
    )


def given_episodes(recipe: Recipe, source: str, seed: int, tasks: TaskSet) -> History:
    """An episode [N, H, ...] that ``source`` collects in each of the held-out ``tasks``."""
    asked = recipe.env, None, recipe.episode, seed, f"offline/{source}"
    if source == INDEPENDENT:
        contexts: RoomContexts = IndependentContexts(*asked)
    else:
        contexts = RolloutContexts(*asked, elsewhere=0.0, source=agent_of(recipe.env, source, recipe.episode))
    return contexts.in_tasks(tasks.ids, tasks.params).history


def _num_queries(recipe: Recipe) -> int:
    """One for each prefix if the layout can ask them."""
    single = recipe.layout.num_prompt or recipe.env.spec.is_stationary_bandit
    return 1 if single and not recipe.label else recipe.context_steps + 1


# --- histories ---


def collect_histories(recipe: Recipe, folder: Path, seed: int) -> None:
    """Collect the histories that ``recipe`` is trained on, as far as they are not in the run's ``folder`` yet."""
    for name in _parts(recipe):
        if not (name == "source" and recipe.data.folder):
            store_part(recipe, _stored(recipe, folder, name), name, seed, len(_train_ids(recipe)))


def histories_by_source(recipe: Recipe) -> dict[str, int]:
    """How many of a task's histories each source makes, in the order in which they are stored: about as many each."""
    share, more = divmod(recipe.data.histories, max(1, len(recipe.sources)))
    return {name: share + (number < more) for number, name in enumerate(recipe.sources)}


def source_histories(recipe: Recipe, folder: Path) -> StoredHistories:
    """The sources' histories of a run that has been collected."""
    return StoredHistories(_stored(recipe, folder, "source"))


def collect(recipe: Recipe, folder: Path, seed: int, num_tasks: int) -> None:
    """Store the data of the first ``num_tasks`` tasks of training seed 0 in ``folder``, the source's alone."""
    if recipe.data.kind == CONTEXTS:
        together = recipe.backbone.sequences_per_task
        contexts = contexts_of(recipe, seed, "pretrain/0", together)
        check_disk(recipe.env, folder, num_tasks * recipe.context_steps)
        store_contexts(folder, contexts, num_tasks, _contexts_card(recipe, seed))
    else:
        require_int("num-tasks", num_tasks, 1, len(_train_ids(recipe)))
        store_part(recipe, folder, "source", seed, num_tasks)


def point_out_namesakes(words: set[str]) -> None:
    """Warn of folders of stored data that are called as data are that are made anew: "contexts", "histories"."""
    for word in sorted(words & {CONTEXTS, HISTORIES}):
        if (Path(word) / CARD).is_file():
            _log.warning("data: %s are made anew; the folder of that name here would be --data ./%s", word, word)


def check_stored(recipe: Recipe, seed: int) -> None:
    """Raise ``InputError`` for stored data that were made with other settings than the recipe's."""
    if not recipe.data.folder:
        return
    if recipe.data.is_foreign:
        check_recorded(recipe, opened(recipe.data.folder))
        return
    if recipe.data.kind == CONTEXTS:
        StoredContexts.made_as(recipe.data.folder, _contexts_card(recipe, seed))
        return
    card = StoredHistories(recipe.data.folder).card
    expected = {**_part_card(recipe, recipe.sources, _parts(recipe)["source"]), "num_steps": recipe.history_steps}
    expected |= {"task_ids": [int(number) for number in _train_ids(recipe)], "episode_steps": recipe.segment}
    wrong = sorted(name for name, value in json.loads(json.dumps(expected)).items() if card.get(name) != value)
    found, needed = len(card.get("task_ids", ())), len(expected["task_ids"])
    few, hint = wrong == ["task_ids"] and found < needed, f"--num-tasks {needed} of icrl collect stores them"
    require(not few, "data", f"{recipe.data.folder} with {found} tasks", f"the {needed} training tasks", hint)
    require(not wrong, "data", recipe.data.folder, f"histories of this experiment; {', '.join(wrong)} differ")


def store_part(recipe: Recipe, folder: Path, name: str, seed: int, num_tasks: int) -> None:
    """Write what the part ``name`` of the histories is in the first ``num_tasks`` training tasks under ``folder``."""
    parts = _parts(recipe)[name]
    ids = np.asarray(_train_ids(recipe)[:num_tasks])
    made = HistoryGenerator(recipe.env, parts, recipe.history_steps, ids, seed, _drawn(recipe))
    check_disk(recipe.env, folder, len(ids) * made.num_histories * recipe.history_steps)
    card = {**_part_card(recipe, recipe.sources if name == "source" else (UNIFORM,), parts), "seed": seed}
    store_collected(folder, made, card, recipe.segment)


def _train_ids(recipe: Recipe) -> range | tuple[int, ...]:
    if recipe.task_ids is None:
        return range(recipe.data.train_tasks)
    return recipe.task_ids[0][: recipe.data.train_tasks]


def _env_card(recipe: Recipe) -> dict[str, Any]:
    return {"id": recipe.env.name, **flat(recipe.env)}


def _part_card(recipe: Recipe, sources: tuple[str, ...], parts: tuple[Part, ...]) -> dict[str, Any]:
    """What made a set of histories, but for the seed."""
    count, shared = sum(part.num_histories for part in parts), parts[0].shared
    made_by = {"source": ", ".join(sources), "streams": shared, "histories": count}
    return {"env": _env_card(recipe), **made_by, "drawn": _drawn(recipe)}


def _contexts_card(recipe: Recipe, seed: int) -> dict[str, Any]:
    """What made a set of contexts."""
    return {
        "env": _env_card(recipe),
        "source": list(recipe.sources),
        "seed": seed,
        "num_steps": recipe.context_steps,
        "sequences_per_task": recipe.backbone.sequences_per_task,
        "num_queries": _num_queries(recipe),
        "elsewhere": recipe.data.elsewhere,
        "skip_episodes": recipe.data.skip_episodes,
        "task_pool": recipe.data.task_pool,
        "labels": recipe.label or recipe.needs_labels,
        "task_ids": None if recipe.task_ids is None else list(recipe.task_ids[0]),
    }


def _drawn(recipe: Recipe) -> str:
    """The stream of tasks that have histories; empty where the family numbers them."""
    return "" if recipe.task_ids is not None else "pretrain/task"


def _num_random(recipe: Recipe) -> int:
    return round(recipe.data.noisy_fraction * recipe.data.histories)


def _num_source(recipe: Recipe) -> int:
    return recipe.data.histories - _num_random(recipe)


def _parts(recipe: Recipe) -> dict[str, tuple[Part, ...]]:
    """The sources' histories and, where the data are noisy, a uniform player's."""
    data, env = recipe.data, recipe.env
    made = []
    for name, count in histories_by_source(recipe).items():
        agent = agent_of(Streams(env, count) if data.streams else env, name, recipe.history_steps)
        made.append(Part(agent, count, data.streams))
    parts = {"source": tuple(made)}
    if _num_random(recipe):
        parts["random"] = (Part(agents[UNIFORM].for_env(env), _num_random(recipe)),)
    return parts


def _stored(recipe: Recipe, folder: Path, part: str) -> Path:
    """Where a part's histories are: the same place for all variants of a run that need the same ones."""
    if part == "source" and recipe.data.folder:
        return Path(recipe.data.folder)
    data, ids = recipe.data, [int(number) for number in _train_ids(recipe)]
    source: Any = list(recipe.sources) if part == "source" else _num_random(recipe)
    how = json.dumps([source, data.histories, recipe.history_steps, data.streams, recipe.segment, ids])
    return folder / "data" / f"{part}-{hashlib.sha256(how.encode()).hexdigest()[:8]}"
