"""What an evaluation has finished, agent by agent: a run that is killed in it goes on behind the last of them."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from icrl.core.errors import DamagedError
from icrl.datasets._arrays import save, stored
from icrl.storage.publish import discard_folder, make_folder, publishing_folder, verify_folder
from icrl.storage.typed import conform

FOLDER = "evaluation"  # in a run's folder, while its evaluation lasts
Curves = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Ledger:
    """The finished curves of one evaluation, each an entry that is published whole.

    A resumed run has the settings, and so the policies, of the one that was killed: an entry is of its agent for good.
    ``clear`` comes before anything that may change them, and when the results are published.
    """

    folder: Path

    @classmethod
    def of_run(cls, run_folder: Path) -> "Ledger":
        """The ledger in a run's folder."""
        return cls(run_folder / FOLDER)

    def once(self, name: str, compute: Callable[[], Curves]) -> Curves:
        """The entry ``name``; what ``compute`` gives, recorded, where there is none or a damaged one."""
        path = self.folder / hashlib.sha256(name.encode()).hexdigest()[:16]
        if path.is_dir():
            try:
                return _read(path, name)
            except DamagedError:
                discard_folder(path)
        curves = compute()
        make_folder(self.folder)
        with publishing_folder(path, {"name": name, "curves": sorted(curves)}) as place:
            for field, values in curves.items():
                save(place / f"{field}.npy", np.asarray(values, order="C"))
        return curves

    def clear(self) -> None:
        """Forget all entries."""
        if self.folder.is_dir():
            discard_folder(self.folder)


def _read(path: Path, name: str) -> Curves:
    meta = verify_folder(path)
    if meta.get("name") != name:
        raise DamagedError(f"{path}: expected the curves of {name!r}, found those of {meta.get('name')!r}")
    conform(meta, {"curves": [str]}, f"{path}: meta")
    present = {each.name for each in path.iterdir()}
    if missing := [field for field in meta["curves"] if f"{field}.npy" not in present]:
        raise DamagedError(f"{path}: expected the curves {', '.join(meta['curves'])}, found no {missing[0]!r}")
    return {field: np.array(stored(path / f"{field}.npy")) for field in meta["curves"]}
