"""The data of the algorithm-distillation experiments: collected once a run, or read from a folder that has them.

Histories are stored before anything is trained on them; kinds of data ("clean", "noisy") are unions of stored sets,
and a variant's windows are drawn from those of the histories that its filter keeps.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import require
from icrl.core.registry import agents, filters
from icrl.core.settings import flat
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_histories
from icrl.datasets.pooled import PooledHistories
from icrl.datasets.windows import Windows, WindowSource
from icrl.envs._streams import Streams
from icrl.filters._selection import provenance_of, save_selection
from icrl.filters._table import HistoryTable
from icrl.recipes.distillation_settings import DistillationSettings
from icrl.recipes.run import Run
from icrl.storage.publish import make_folder

DEVICE_BYTES = 2**30  # of histories in compact dtypes: a larger set stays on disk, its windows are read from there


def windows_of(
    settings: DistillationSettings,
    run: Run,
    unions: dict[str, tuple[HistoryTable, WindowSource]],
    digest: str,
    model: int,
) -> Windows:
    """What ``model`` is trained on; which histories those are is written down."""
    variant, train_seed = divmod(model, settings.train_seeds)
    data, name = settings.variants[variant]
    (table, source), rule = unions[data], filters[name]()
    chosen = rule.select(table, np.random.default_rng([run.seed, train_seed, 0]))
    path = run.folder / "data" / f"selection-{data}-{name}-{train_seed}.json"
    make_folder(path.parent)
    save_selection(path, chosen, provenance_of(name, rule, table, run.seed, digest))
    stride = settings.episode if settings.forget == settings.episode else 1
    draws = (run.seed, train_seed, 1)
    first = -(-chosen.first_episode // settings.keep_every) * settings.episode
    task = table.task if settings.backbone.sequences_per_task == 2 else None
    return Windows(source, chosen.index, settings.window, settings.fit.batch_size, draws, stride, first, task)


def source_part(settings: DistillationSettings) -> Part:
    """The source of the settings, as what makes the histories of a task."""
    env = Streams(settings.env, settings.histories) if settings.streams else settings.env
    agent = agents[settings.source].for_env(env)
    able = not settings.streams or hasattr(agent, "num_streams")
    require(able, "source", settings.source, "one that learns in parallel streams: ppo, a2c", "or set --streams false")
    return Part(agent, settings.histories, settings.streams)


def _num_random(settings: DistillationSettings) -> int:
    """Histories of each task that are a uniform player's in the noisy data."""
    return round(settings.noisy_fraction * settings.histories)


def collected_histories(settings: DistillationSettings, run: Run) -> dict[str, StoredHistories]:
    """The data sets of the run, collected as far as they are not there yet."""
    num_tasks, parts = len(settings.task_ids[0]), {"source": source_part(settings)}
    if "noisy" in settings.conditions and _num_random(settings):
        parts["random"] = Part(agents["uniform"].for_env(settings.env), _num_random(settings))
    found = {"source": stored_histories(settings)} if settings.data else {}
    for name in parts.keys() - found.keys():
        store_part(settings, run.seed, run.folder / "data" / name, parts[name], num_tasks)
    return {name: StoredHistories(run.folder / "data" / name) for name in parts.keys() - found.keys()} | found


def source_histories(settings: DistillationSettings, run: Run) -> StoredHistories:
    """The source's histories of a run that has been collected."""
    return StoredHistories(settings.data or run.folder / "data" / "source", verify=False)


def stored_histories(settings: DistillationSettings) -> StoredHistories:
    """The histories that the settings name; those of another seed are data of the same kind."""
    stored, ids = StoredHistories(settings.data), np.asarray(settings.task_ids[0])
    expected = {**_card(settings, source_part(settings)), "num_steps": settings.history_steps, "task_ids": ids.tolist()}
    wrong = sorted(name for name, value in json.loads(json.dumps(expected)).items() if stored.card.get(name) != value)
    require(not wrong, "data", settings.data, f"histories of this experiment; {', '.join(wrong)} differ")
    return stored


def _card(settings: DistillationSettings, part: Part) -> dict[str, Any]:
    """What made a set of histories, but for the seed."""
    env = {"id": settings.env.name, **flat(settings.env)}
    made_by = {"source": type(part.source).__name__, "streams": part.shared, "histories": part.num_histories}
    return {"env": env, **made_by}


def store_part(settings: DistillationSettings, seed: int, folder: Path, part: Part, num_tasks: int) -> None:
    """Write the histories that ``part`` lives in the first ``num_tasks`` training tasks under ``folder``."""
    ids, card = np.asarray(settings.task_ids[0][:num_tasks]), {**_card(settings, part), "seed": seed}
    store_histories(folder, HistoryGenerator(settings.env, (part,), settings.history_steps, ids, seed), card)


def union_of(
    settings: DistillationSettings, histories: dict[str, StoredHistories], data: str
) -> tuple[HistoryTable, WindowSource]:
    """Returns and transitions of one kind of data; in the noisy one random players replace the last of each task."""
    num_random = _num_random(settings) if data == "noisy" else 0
    counts = {"source": settings.histories - num_random, "random": num_random}
    parts = tuple((histories[name], count) for name, count in counts.items() if count)
    pooled = PooledHistories(parts, settings.keep_every)
    return pooled.table(), pooled.on_device() if pooled.nbytes <= DEVICE_BYTES else pooled
