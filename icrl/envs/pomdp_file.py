"""Any finite POMDP from a file in Cassandra's format: ``--env pomdp:hallway.POMDP``."""

import dataclasses
import functools
import hashlib
import re
from pathlib import Path

import numpy as np

from icrl.core.errors import InputError, require
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.envs._finite_pomdp import FinitePOMDP, steps
from icrl.envs._pomdp_text import Model, parse
from icrl.planning.pomdp import Tables, from_dense

MAX_BYTES = 2**24
DIGITS = 16  # of the digest, hexadecimal
EXAMPLE = """
# A machine that wears out unseen: run it, look at it, or repair it.
discount: 0.95
values: reward
states: good worn
actions: run look repair
observations: fine rattle
start: good
T: run
0.8 0.2
0.0 1.0
T: look identity
T: repair : * : good 1.0
O: * : good
0.7 0.3
O: * : worn
0.2 0.8
O: look : good : * 0.0
O: look : good : fine 1.0
O: look : worn : * 0.0
O: look : worn : rattle 1.0
R: run : good : * : * 1.0
R: run : worn : * : * -1.0
R: look : * : * : * -0.25
R: repair : * : * : * -0.75
"""


@environments.register("POMDPFile-v0", paper="Cassandra 1998", prefix="pomdp", setting="file")
@dataclasses.dataclass(frozen=True)
class POMDPFile(FinitePOMDP):
    """The POMDP that a ``.POMDP`` file describes; its name is ``pomdp:PATH``. See ``icrl/envs/_pomdp_text.py``.

    An episode begins with an observation of its own, the last number, that tells nothing; the format has none. A state
    that no action leaves and that pays nothing ends the episode, which changes no value. Rewards that differ by
    observation are paid as their expectation, given s, a and s'. Returns are undiscounted, as everywhere; the file's
    discount is ``discount``, for ``belief-optimal@discount=``.

    ``file`` becomes the absolute path and, behind an @, a digest of the text: a stored run finds its file again from
    any folder, and a file that has changed since is refused.
    """

    horizon: int = steps(20)
    file: str = setting(
        "", help="path of a .POMDP file, @ and a digest of its text behind it or not; empty: an example"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.file:
            path, digest = _parts(self.file)
            found = hashlib.sha256(_read(path).encode()).hexdigest()[:DIGITS]
            hint = f"{path} has changed; give the path without @ to take it as it is now"
            require(digest in ("", found), "file", f"...@{found}", f"...@{digest}", hint)
            object.__setattr__(self, "file", f"{path}@{found}")  # the way of a frozen dataclass to derive a field
        _model(self.file)  # refuses what is no POMDP

    @property
    def model(self) -> Model:
        """What the file says."""
        return _model(self.file)

    @property
    def discount(self) -> float:
        """The file's discount, which no return here is subject to."""
        return self.model.discount

    def tables(self) -> Tables:
        transition, _, reward = self.model.transition, self.model.observation, self.model.reward
        stays = np.diagonal(transition, axis1=1, axis2=2) == 1.0
        ends = np.all(stays & (np.diagonal(reward, axis1=1, axis2=2) == 0.0), axis=0)
        observation = np.pad(self.model.observation, ((0, 0), (0, 0), (0, 1)))
        return from_dense(transition, observation, reward, self.model.start, ends)


@functools.lru_cache(maxsize=64)
def _model(file: str) -> Model:
    """What a file with its digest says; "" is the example."""
    return parse(_read(_parts(file)[0]), _parts(file)[0]) if file else parse(EXAMPLE, "example")


def _parts(file: str) -> tuple[str, str]:
    """(absolute path, digest or "")."""
    path, digest = file, ""
    if re.fullmatch(rf".*@[0-9a-f]{{{DIGITS}}}", file, re.DOTALL):
        path, _, digest = file.rpartition("@")
    try:
        return str(Path(path).expanduser().resolve()), digest
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"file: got {file!r}, allowed: the path of a .POMDP file ({error})") from error


def _read(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        require(len(data) <= MAX_BYTES, "file", path, f"a file of at most {MAX_BYTES:,} bytes")
        return data.decode("utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"file: got {path!r}, allowed: the path of a .POMDP file ({reason})") from error
