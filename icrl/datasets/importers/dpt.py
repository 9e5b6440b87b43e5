"""Contexts of DPT (Lee et al. 2023, jon--lee/decision-pretrained-transformer), from an archive of the same keys."""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import importers
from icrl.core.settings import flat
from icrl.core.types import EnvSpec
from icrl.datasets._checks import EXACT
from icrl.datasets.foreign import FOREIGN
from icrl.datasets.histories import RECORDED
from icrl.datasets.importers._importer import Importer, format_of, indices_of, needed, read_npz
from icrl.datasets.store import store_records
from icrl.envs._recorded import RecordedEnvironment

KEYS = ("context_states", "context_actions", "context_next_states", "context_rewards", "query_state", "optimal_action")


class FoundContexts(NamedTuple):
    """N contexts of T transitions, each with a query and its label."""

    fields: dict[str, np.ndarray]  # of our record, [N, ...]
    card: dict[str, Any]

    def store(self, folder: Path) -> None:
        """Write them under ``folder``."""
        count = len(self.fields["action"])
        store_records(
            folder, lambda ids: {n: f[ids] for n, f in self.fields.items()}, count, self.card, doing="importing"
        )


@importers.register("dpt", paper="Lee et al. 2023")
@dataclasses.dataclass(frozen=True)
class DPTContexts(Importer):
    """An ``.npz`` file of the keys of their trajectories, stacked: ``context_states`` [N, T, d], ``query_state``, ...

    ``context_actions`` and ``optimal_action`` are one-hot. Theirs are pickles, which are not read: unpickling runs
    whatever a file says. Convert them where you trust them:
    ``np.savez(FILE, **{key: np.stack([t[key] for t in trajs]) for key in trajs[0]})``.
    Train on them with ``icrl run dpt --data FOLDER``.
    """

    each: int = setting(1, low=1, high=2**20, help="contexts of one task, which follow one another in the file")
    obs_states: int | None = setting(None, low=1, high=65536, help="states are integers below this; none: real numbers")

    def find(self, source: Path) -> FoundContexts:
        arrays, name = read_npz(source), source.name
        needed(arrays, KEYS, name)
        states, (action, known) = arrays["context_states"], indices_of(arrays["context_actions"], name)
        require(states.ndim == 3 and action.ndim == 2, f"{name}: context_states: shape", states.shape, "[N, T, d]")
        count, steps, dim = states.shape
        require(count % self.each == 0, "each", self.each, f"a number that divides the {count} contexts of {name}")
        label, _ = indices_of(arrays["optimal_action"], name)
        num_actions = known or int(max(action.max(), label.max())) + 1
        shapes = {
            "context_next_states": (count, steps, dim), "context_rewards": (count, steps), "query_state": (count, dim)
        }  # fmt: skip
        for key, shape in shapes.items():
            same = arrays[key].size == math.prod(shape)
            require(same, f"{name}: {key}: shape", arrays[key].shape, f"{list(shape)}, as context_states has")
        fields: dict[str, np.ndarray] = {
            "obs": self._numbers(arrays, "context_states", name),
            "action": action.astype(np.int32),
            "reward": self._numbers(arrays, "context_rewards", name).reshape(count, steps),
            "next_obs": self._numbers(arrays, "context_next_states", name).reshape(count, steps, dim),
            "terminated": np.zeros((count, steps), bool),
            "truncated": np.zeros((count, steps), bool),
            "query": self._numbers(arrays, "query_state", name).reshape(count, 1, dim),
            "label": label.reshape(count, 1).astype(np.int32),
        }
        if self.obs_states is not None:
            seen = fields["obs"]
            inside = bool(((seen >= 0) & (seen < self.obs_states) & (seen == np.rint(seen))).all())
            require(inside, f"{name}: context_states", "others", f"integers in [0, {self.obs_states - 1}]")
        spec = EnvSpec(
            source.stem, num_actions, (dim,), float(fields["obs"].min()), float(fields["obs"].max()), steps,
            () if self.obs_states is None else (self.obs_states,) * dim,
        )  # fmt: skip
        assumed = ["no episode of a context ends: its transitions are independent, or an episode"]
        return FoundContexts(fields, {
            "env": {"id": RECORDED, **flat(RecordedEnvironment.of(spec, count // self.each))},
            "source": "unknown", FOREIGN: {"format": format_of(self), "from": name, "assumed": assumed},
            "num_steps": steps, "each": self.each,
        })  # fmt: skip

    @staticmethod
    def _numbers(arrays: dict[str, np.ndarray], key: str, name: str) -> np.ndarray:
        array = arrays[key]
        require(array.dtype.kind in "fiub", f"{name}: {key}", str(array.dtype), "numbers")
        odd = ~(np.abs(array.astype(np.float64)) <= (EXACT if array.dtype.kind in "iu" else 3e38))
        if odd.any():
            place = tuple(int(index) for index in np.argwhere(odd)[0])
            require(False, f"{name}: {key}{list(place)}", array[place].item(), "a finite number")
        return array.astype(np.float32)
