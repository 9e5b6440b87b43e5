"""What all tests share: compiled code kept on disk between workers, subprocesses and runs."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

import pytest

# Before anything imports jax; workers and the command lines that tests start inherit it. Compiled code is found by
# the digest of its program, so that a stale entry is never used; delete the folder at will.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.02")
# As a user may have it: shapes of different ranks meet only where the code says how.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# Tracing makes many small objects that live on; to look for cycles among them at every 700th is 4 % of all time.
gc.set_threshold(50_000, 20, 20)

# Files of tests that compute more than they compile.
OPTIMIZED = {
    "test_ad_learns.py",
    "test_anchors.py",
    "test_exact_bandits.py",
    "test_posterior.py",
    "test_room_agents.py",
    "test_tabular.py",
}
BY_DAY = (
    "--xla_backend_optimization_level=1"
    " --xla_cpu_use_fusion_emitters=false"  # the older ones compile in half the time, and their code runs as fast
    " --xla_cpu_parallel_codegen_split_count=1"  # the other core has tests of its own
)
BY_NIGHT = "--xla_backend_optimization_level=1"  # nearer to what users run, at twice the price


FEW_AND_LONG = {"test_resume.py", "test_dpt_learns.py", "test_ad_learns.py"}  # of minutes: not to be left for the end


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in FEW_AND_LONG)


def is_day(config) -> bool:
    return config.option.markexpr == "not nightly"


def pytest_configure(config):
    """Compiling is most of what the tests cost. Subprocesses inherit these settings too."""
    known = version("jaxlib").startswith("0.10.")  # XLA dies of flags that it does not know
    os.environ.setdefault("XLA_FLAGS", BY_DAY if known and is_day(config) else BY_NIGHT)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """By day level 0: code compiled in a third of the time that runs a third as fast, but for long computations."""
    import jax

    hasty = is_day(item.config) and item.path.name not in OPTIMIZED
    jax.config.update("jax_disable_most_optimizations", hasty)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(hasty))


MAPPINGS = 12_000  # of a process; Linux allows 65 530 by default, and compiled code beyond that ends it without a word


@pytest.fixture(scope="module", autouse=True)
def _not_too_much_compiled_code():
    """What a module leaves behind (compiled programs, mostly) is kept, unless it has become too much."""
    yield
    drop_compiled_code()
    gc.freeze()  # the collector need not walk all of it again


@pytest.fixture
def compiles_much():
    """For tests of which each compiles programs of its own: what one leaves behind is dropped before the next."""
    yield
    drop_compiled_code()


def drop_compiled_code() -> None:
    """Forget compiled programs if there are too many."""
    if num_mappings() > MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()


def num_mappings() -> int:
    """Memory mappings of this process; 0 where the system does not tell."""
    try:
        return len(Path("/proc/self/maps").read_bytes().splitlines())
    except OSError:
        return 0
