"""What all tests share: compiled code kept on disk between workers, subprocesses and runs."""

import gc
import os
from pathlib import Path

import pytest

# Before anything imports jax; workers and the command lines that tests start inherit it. Compiled code is found by
# the digest of its program, so that a stale entry is never used; delete the folder at will.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.02")


@pytest.fixture(scope="module", autouse=True)
def _spare_the_collector():
    """What a module leaves behind (compiled programs, mostly) stays; the garbage collector need not walk it again."""
    yield
    gc.freeze()
