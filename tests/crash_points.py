"""Death, or an error, at each call that changes the disk: what tests of files share."""

import contextlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

CHANGES = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "ftruncate")


@contextlib.contextmanager
def intercepted(before):
    """Call ``before(name, original, args)`` ahead of every os call that changes the disk."""
    originals = {name: getattr(os, name) for name in CHANGES}

    def wrap(name):
        def wrapped(*args, **kwargs):
            creates = name != "open" or (len(args) > 1 and args[1] & os.O_CREAT)
            if creates:
                before(name, originals[name], args)
            return originals[name](*args, **kwargs)

        return wrapped

    try:
        for name in CHANGES:
            setattr(os, name, wrap(name))
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def die_at(k: int):
    calls = 0

    def before(name, original, args):
        nonlocal calls
        calls += 1
        if calls == k:
            if name == "write":
                original(args[0], bytes(args[1])[: len(args[1]) // 2])  # torn in the middle
            os._exit(9)

    return before


def in_fork(action) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            action()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fail_at(k: int, number: int, only: tuple[str, ...] = ("open", "write", "fsync", "replace", "rename", "mkdir")):
    """The k-th call fails, once: what cleans up afterwards works, as on a full disk."""
    calls = 0

    def before(name, original, args):
        nonlocal calls
        if name in only:
            calls += 1
            if calls == k:
                if name == "write":
                    original(args[0], bytes(args[1])[: len(args[1]) // 2])
                raise OSError(number, os.strerror(number))

    return before, lambda: calls < k


@contextlib.contextmanager
def full_disk(size: int):
    """Nothing is written beyond ``size`` bytes of a file, whoever writes it: the error is that of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # Python ignores the signal that comes with it
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def child_environment() -> dict[str, str]:
    """That of a test file which is run as a script: it finds what test files share."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def run_child(file: str, role: str, *args: object) -> dict:
    """What the last line of a test file's own child tells; such a child never imports jax."""
    command = [sys.executable, file, role, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, env=child_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
