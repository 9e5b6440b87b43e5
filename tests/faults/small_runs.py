"""A finished run in its smallest size, commands in this process, and what a run says: what tests of the night share."""

import contextlib
import io
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import icrl
from icrl.cli import main

RUN = ["run", "ad", "--preset", "smoke", "--train-steps", "4", "--save-every", "2", "--log-every", "1"]
RUN += ["--warmup-steps", "1", "--competitors", "uniform"]
TIMED = ("seconds", "sha256", "versions")  # of results, not of what they say


def command(*words) -> tuple[int, str]:
    """Exit code and stderr of a command in this process; other exceptions than those that end in a line go through."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main([str(word) for word in words])
    return code, errors.getvalue()


def results(run: Path) -> dict:
    found = json.loads((run / "results.json").read_text())
    return {key: value for key, value in found.items() if key not in TIMED}


def played(run: Path) -> list:
    """What the loaded agent does."""
    host = icrl.load_agent(run)
    host.reset(seed=3)
    return [host.act(np.zeros(host.spec.obs_shape, np.float32)) for _ in range(5)]


def files(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file() and path.name != ".lock")


def free_port() -> int:
    """A port of this machine that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(found: Callable[[], object], seconds: float = 5) -> None:
    """Wait for what is ``found`` to be true."""
    for _ in range(int(100 * seconds)):
        if found():
            return
        time.sleep(0.01)
    raise AssertionError("nothing came")
