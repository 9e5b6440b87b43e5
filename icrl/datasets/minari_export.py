"""Learning histories as a Minari dataset, for users of other libraries: one Minari episode per episode of a history.

Minari (Younis et al. 2024, https://minari.farama.org) is the Farama Foundation's format of offline data. It knows
episodes only, so each says in its ``infos`` which history it is a piece of: ``task_id``, ``history`` (its number among
the task's) and ``episode`` (its number in the history), repeated for every observation, as Minari wants infos to be.
They stand there and not in Minari's metadata of episodes because ``combine_datasets`` and ``filter_episodes`` know
infos alone. Episodes follow one another as they were lived: task by task, history by history.

An episode of 20 steps takes 23 kB of HDF5 and 1.4 ms (one CPU core, minari 0.5.4, 2026-11-21): export what is wanted.
"""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import InputError, require
from icrl.core.progress import Progress
from icrl.core.settings import flat
from icrl.core.types import History
from icrl.datasets.histories import PROPENSITY, StoredHistories, episodes
from icrl.storage.publish import make_folder, publishing_folder

DESCRIPTION = (
    "Learning histories: whole runs of learners, in many tasks. The infos of an episode tell its task_id, its history "
    "(number among those of the task) and its number in the history (episode); together, in order, the episodes of a "
    "history are one rollout. An episode without a flag at its end was cut off with its history."
)


def export_minari(
    stored: StoredHistories,
    out: Path,
    tasks: range | None = None,
    histories: range | None = None,
    author: str = "icrl",
) -> int:
    """Write a part of ``stored`` as the Minari dataset ``out`` and return its number of episodes.

    Observations are float32 [L + 1, *O] (the last is the true last one), actions int64 [L], rewards float32 [L].

    Args:
      out: a new folder; its name, NAME-vNUMBER, is the dataset's id and its parent is Minari's MINARI_DATASETS_PATH.
      tasks: positions in the set; None for all.
      histories: numbers of the histories of each task; None for all.
      author: who is named in the dataset's metadata.

    Raises:
      InputError: Minari is not installed, ``out`` exists or is no dataset id, a range leaves the set, or the card
        names no registered environment, so that its spaces are unknown.
    """
    EpisodeBuffer, MinariStorage = _minari()
    is_id = re.fullmatch(r"[-\w]+-v\d+", out.name) is not None
    require(is_id, "out", str(out), "a folder called NAME-vNUMBER, for instance dark-room-v0: Minari's id of a dataset")
    tasks = _part("tasks", tasks, stored.num_tasks)
    histories = _part("histories", histories, stored.num_histories)
    env = _environment(stored)
    make_folder(out.parent)
    with (
        publishing_folder(out, {"source": stored.digest}) as folder,
        Progress("exporting", len(tasks) * len(histories), "histories") as bar,
    ):
        data = folder.absolute() / "data"  # Minari measures the size of a relative folder wrongly, and fails
        storage = MinariStorage.new(data, env.observation_space, env.action_space, env.spec)
        whole = len(tasks) == stored.num_tasks and len(histories) == stored.num_histories
        storage.update_metadata(_metadata(stored, out.name, author, whole))
        pieces = _pieces(stored, tasks, histories, bar)
        storage.update_episodes(EpisodeBuffer(**_fields(piece, infos, env)) for piece, infos in pieces)
        return storage.total_episodes


def _minari() -> tuple[Any, Any]:
    """Minari's buffer of an episode and its storage; h5py is what writes the files."""
    try:
        import h5py  # noqa: F401
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise InputError(f"export: needs Minari with h5py ({error}); install the extra icrl[minari]") from error
    return EpisodeBuffer, MinariStorage


def _part(field: str, part: range | None, count: int) -> range:
    """``part`` of 0 .. count - 1, or all of it."""
    part = range(count) if part is None else part
    inside = 0 <= part.start < part.stop <= count and part.step == 1
    require(inside, field, f"{part.start}:{part.stop}", f"FIRST:END with 0 <= FIRST < END <= {count}")
    return part


class _Spaces(NamedTuple):
    """As much of a gymnasium environment as a dataset needs."""

    observation_space: Any
    action_space: Any
    spec: Any = None


def _environment(stored: StoredHistories) -> Any:
    """The gymnasium environment of the histories: its spaces, and the spec that makes it again where there is one."""
    import gymnasium

    env = stored.environment()
    if env is None:
        raise InputError(f"data: {stored.folder} is not of a registered environment; known: icrl list envs")
    if env.is_recorded:
        spec = env.spec
        box = gymnasium.spaces.Box(spec.obs_low, spec.obs_high, spec.obs_shape, stored.fields["obs"]["dtype"])
        return _Spaces(box, gymnasium.spaces.Discrete(spec.num_actions))
    settings: dict[str, Any] = flat(env)
    return gymnasium.make(f"icrl:icrl/{stored.env_id}", **settings)


def _metadata(stored: StoredHistories, dataset_id: str, author: str, whole: bool) -> dict[str, Any]:
    """What Minari's users look for, and under "icrl" the digest and the card of the set that this is all or part of."""
    return {
        "dataset_id": dataset_id,
        "minari_version": importlib.metadata.version("minari"),
        "algorithm_name": str(stored.card.get("source", "unknown")),
        "author": {author},
        "description": DESCRIPTION,
        "requirements": [f"icrl>={importlib.metadata.version('icrl')}"],
        "icrl": {"digest": stored.digest, "card": stored.card, "whole": whole},
    }


def _pieces(
    stored: StoredHistories, tasks: range, histories: range, bar: Progress
) -> Iterator[tuple[History, dict[str, Any]]]:
    """Every episode [L, ...] with its place; one task's histories are in memory at a time."""
    for position in tasks:
        lives = stored.of_task(position)
        chances = stored.propensities(position) if PROPENSITY in stored.fields else None
        for number in histories:
            place = {"task_id": stored.card["task_ids"][position], "history": number}
            step = 0
            for episode, piece in enumerate(episodes(lives[number])):
                infos: dict[str, Any] = {**place, "episode": episode}
                if chances is not None:  # one for each observation, as Minari wants infos to be; the last acts no more
                    chosen = chances[number, step : step + len(piece.action)]
                    infos["propensity"] = np.append(chosen, chosen[-1:])
                step += len(piece.action)
                yield piece, infos
            bar.advance(1)


def _fields(piece: History, infos: dict[str, Any], env: Any) -> dict[str, Any]:
    """The fields of a Minari episode; whole numbers among its ``infos`` are repeated for every observation."""
    observations = np.concatenate([piece.obs, piece.next_obs[-1:]])
    return {
        "observations": observations,
        "actions": np.asarray(piece.action, env.action_space.dtype),
        "rewards": piece.reward,
        "terminations": piece.terminated,
        "truncations": piece.truncated,
        "infos": {name: np.broadcast_to(value, len(observations)).copy() for name, value in infos.items()},
    }
