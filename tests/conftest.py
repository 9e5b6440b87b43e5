"""What all tests share: compiled code kept on disk between workers, subprocesses and runs, and a lean process."""

import gc
import os
from pathlib import Path

import pytest

# Before anything imports jax; workers and the command lines that tests start inherit it. Compiled code is found by
# the digest of its program, so that a stale entry is never used; delete the folder at will.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_code():
    """Every module starts lean: thousands of compiled programs would hold gigabytes and slow the collector down."""
    yield
    import jax

    jax.clear_caches()
    gc.collect()
