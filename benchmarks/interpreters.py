"""The environment of a peer: a virtual one for each file of pinned packages in ``peers``, made once and kept.

They lie below the folder for temporary files and are known by the digest of that file and the version of Python.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
SECONDS = 1800  # of an installation


class NotInstalled(Exception):
    """Why a peer cannot run, in one line."""


def interpreter(packages: str) -> str:
    """The Python that has the packages of ``peers/PACKAGES.txt``; "": this one.

    Raises:
      NotInstalled: pip could not install them.
    """
    if not packages:
        return sys.executable
    wanted = PEERS / f"{packages}.txt"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"icrl-peers-{os.getuid()}" / f"{packages}-{digest}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        print(f"installing {wanted.name} into {folder}", file=sys.stderr, flush=True)
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", "--requirement", str(wanted))
        done.touch()
    return str(python)


def _run(*words: str) -> None:
    try:
        ended = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"not installed: {SECONDS} seconds were not enough") from None
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")] or ended.stderr.splitlines()
        raise NotInstalled(f"not installed: {lines[-1] if lines else ended.returncode}")
