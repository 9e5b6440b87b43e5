"""Commands as processes that are forked from one which has imported all they need, so that a trial costs no imports.

For test files that run themselves as a script: jax must not have started its threads. Each command is a process of its
own, and is killed, refused or out of disk as any other.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from crash_points import child_environment


def import_what_all_need() -> None:
    import matplotlib.figure  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import tensorboardX  # noqa: F401
    from jax._src import xla_bridge

    import icrl.experiments.ad
    import icrl.experiments.dpt
    import icrl.experiments.rl2
    import icrl.reports.report
    import icrl.training.fit
    import icrl.training.ppo  # noqa: F401

    assert not xla_bridge.backends_are_initialized()


def forked(words: tuple[str, ...], log: Path, before: Callable[[], None] = lambda: None) -> int:
    """The process id of ``icrl`` with these words, which writes into ``log``; ``before`` is called in it first."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1), os.dup2(descriptor, 2)
            from icrl.cli import main

            before()
            code = main(list(words))
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(code)
    return child


def ended(child: int) -> int:
    """Its exit code; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finished(words: tuple[str, ...], log: Path) -> int:
    """Exit code of ``icrl`` with these words."""
    return ended(forked(words, log))


def told_by(file: str, *words: object) -> list[dict]:
    """What a test file tells as a script, a line of JSON for each trial; its arguments are the ``words``."""
    command = [sys.executable, file, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=child_environment(), check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
