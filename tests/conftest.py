"""What all tests share: compiled code kept on disk between workers, subprocesses and runs."""

import gc
import os
from pathlib import Path

import pytest

# Before anything imports jax; workers and the command lines that tests start inherit it. Compiled code is found by
# the digest of its program, so that a stale entry is never used; delete the folder at will.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.02")
# Compiling is most of what the tests cost: level 1 takes 15 to 55 % less than the default, and its code runs as fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")


MAPPINGS = 12_000  # of a process; Linux allows 65 530 by default, and compiled code beyond that ends it without a word


@pytest.fixture(scope="module", autouse=True)
def _not_too_much_compiled_code():
    """What a module leaves behind (compiled programs, mostly) is kept, unless it has become too much."""
    yield
    if num_mappings() > MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()
    gc.freeze()  # the collector need not walk all of it again


def num_mappings() -> int:
    """Memory mappings of this process; 0 where the system does not tell."""
    try:
        return len(Path("/proc/self/maps").read_bytes().splitlines())
    except OSError:
        return 0
