"""A process that was forked after jax had started its threads: the first computation is refused, and does not hang.

Threads do not survive ``fork``, so what waits for one of them waits for ever. A child forked before jax computed
anything has threads of its own; so has one that was spawned, or made by a fork server.
"""

import os

from jax._src import xla_bridge  # jax has no public way to ask

from icrl.core.errors import InputError


def _is_alone() -> bool:
    """Whether this process has a single thread, where the system tells (Linux)."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


# Whether this process lost the threads of jax in a fork: before this module was imported, or since.
_cut_off = xla_bridge.backends_are_initialized() and _is_alone()


def refuse_after_fork() -> None:
    """Raise ``InputError`` where jax would wait for threads that only the parent process has."""
    if _cut_off:
        raise InputError(
            "process: was forked after jax had started, so that jax would wait for ever; start it before the first "
            'computation, or with multiprocessing.get_context("spawn")'
        )


def _after_in_child() -> None:
    global _cut_off
    _cut_off = _cut_off or xla_bridge.backends_are_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
