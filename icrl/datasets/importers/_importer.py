"""What importers share: their base, and the arrays of ``.npz`` files, from which nothing is ever unpickled."""

import abc
import dataclasses
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from icrl.core.errors import InputError, near_names, require
from icrl.core.fields import Checked, setting
from icrl.datasets._checks import ACTIONS, NAMES
from icrl.datasets._tasks import REFUSE, UNEQUAL, Tasks
from icrl.datasets.foreign import Found, found_in
from icrl.storage.paths import show

PIECE, PIECES = 1000, 10  # steps of a history that is cut from a stream, at most; how many there are at least


class Storable(Protocol):
    """What an importer found: checked when it is written."""

    def store(self, folder: Path) -> None:
        """Write it as a set of ours."""


class Importer(Checked, abc.ABC):
    """A layout of recorded data. Subclasses are frozen dataclasses; their fields are the flags of ``icrl import``."""

    suffixes: ClassVar[tuple[str, ...]] = ()  # of names of sources that mean this layout, if no other is named

    @abc.abstractmethod
    def find(self, source: Path) -> Storable:
        """What is in ``source``; ``InputError`` that names file and field if it is not of this layout."""


@dataclasses.dataclass(frozen=True)
class HistoryImporter(Importer):
    """Base of the layouts of histories; subclasses say where the tasks are and what was assumed of them."""

    unequal: str = setting(
        REFUSE, choices=UNEQUAL, help="histories of different lengths: refuse them, or cut all to the shortest"
    )
    num_actions: int | None = setting(
        None, low=1, high=65536, help="K; none: as the source says, or one more than the largest action"
    )
    obs_states: int | None = setting(
        None, low=1, high=65536, help="observations are integers below this; none: real numbers, or as the source says"
    )

    @abc.abstractmethod
    def tasks(self, source: Path) -> Tasks:
        """Where the arrays of each task are."""

    def assumed(self) -> tuple[str, ...]:
        """What the layout does not record, for the card."""
        return ()

    def about(self, source: Path) -> dict[str, str]:
        """What the source says of itself, for the card; ``env`` names its environment."""
        del source
        return {}

    def values_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """How many values each scalar of an observation of ``shape`` has; none: they are real numbers."""
        return () if self.obs_states is None else (self.obs_states,) * math.prod(shape)

    def find(self, source: Path) -> Found:
        origin = {"format": format_of(self), "from": source.name, "env": source.stem, **self.about(source)}
        return found_in(
            self.tasks(source),
            self.unequal,
            num_actions=self.num_actions,
            nvec_of=self.values_of,
            source=origin.pop("source", "unknown"),
            origin=origin,
            assumed=self.assumed(),
        )


def format_of(importer: Importer) -> str:
    """The name under which its class is registered."""
    from icrl.core.registry import importers

    return importers.name_of(type(importer))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` file by name.

    Raises:
      InputError: no such file, no archive of arrays, or one of pickled objects, which would have to be executed.
    """
    hint = "unpickling runs whatever the file says: convert it where you trust it, np.savez(FILE, **arrays)"
    is_archive = path.is_file() and zipfile.is_zipfile(path)
    require(is_archive, "source", show(path), "an .npz archive of arrays", hint if path.suffix == ".pkl" else "")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise InputError(f"{show(path.name)}: holds pickled objects, allowed: arrays of numbers; {hint}") from error
        raise InputError(f"source: got {show(path)}, allowed: an .npz archive of arrays ({show(error)})") from error


def needed(arrays: Mapping[str, object], names: Sequence[str], place: str) -> None:
    """Raise ``InputError`` for the first of ``names`` that is not among the ``arrays`` of ``place``."""
    for name in names:
        if name not in arrays:
            raise InputError(f"{place}: {name}: missing; {near_names(name, arrays)}")


def check_ranks(arrays: Mapping[str, Any], place: str) -> None:
    """Raise ``InputError`` for an array of those documented that has other leading axes than ``actions``."""
    leading = arrays[ACTIONS].shape
    for name in NAMES.values():
        found = arrays[name].shape if name in arrays else leading
        same = found[: len(leading)] == leading
        require(same, f"{place}: {name}: shape", found, f"{list(leading)} and the shape of one, as {ACTIONS} has")


def npz_files(source: Path, pattern: str = "*.npz") -> list[Path]:
    """``source`` itself, or all files below the folder that it is which match, in the order of the numbers in them."""
    if not source.is_dir():
        return [source]
    found = sorted(source.glob(pattern), key=lambda path: [_number(part) for part in path.relative_to(source).parts])
    require(bool(found), "source", show(source), f"a folder with files {pattern}")
    return found


def _number(text: str) -> tuple[int, str]:
    digits = "".join(letter for letter in text if letter.isdigit())
    return int(digits or 0) if len(digits) < 20 else 0, text


def indices_of(array: np.ndarray, place: str) -> tuple[np.ndarray, int | None]:
    """Actions [..., T] as integers, from those or from one-hot rows [..., T, K], and K if these tell it."""
    if array.ndim >= 2 and array.shape[-1] > 1:
        one_hot = bool(((array == 0) | (array == 1)).all() and (array.sum(-1) == 1).all())
        hint = "continuous actions cannot be predicted here"
        require(one_hot, f"{place}: actions", f"{array.dtype} of shape {array.shape}", "integers, or one-hot", hint)
        return array.argmax(-1).astype(np.int32), array.shape[-1]
    flat = array[..., 0] if array.ndim >= 2 else array
    whole = flat.dtype.kind in "iu" or (flat.dtype.kind == "f" and bool((flat == np.rint(flat)).all()))
    require(whole, f"{place}: actions", str(array.dtype), "integers", "continuous actions cannot be predicted here")
    return flat.astype(np.int64), None


def pieces(total: int, asked: int | None, longest: int = 1) -> tuple[int, int]:
    """(R, T): R histories of T steps cut from a stream of ``total`` steps.

    T is as ``asked``; else there are ten pieces, or more of at most 1 000 steps, each of two of the longest episode.
    """
    if asked is not None:
        require(asked <= total, "history_steps", asked, f"at most the {total} steps of the source")
        return total // asked, asked
    count = max(1, min(max(PIECES, -(-total // PIECE)), total // max(2, 2 * longest)))
    return count, total // count
