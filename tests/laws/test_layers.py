"""Who may import whom, as one table. A module may import what stands in a higher row of it, and its own folder."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import icrl

ROOT = Path(icrl.__file__).parent

# From the ground up; neighbours in a row do not know each other.
LAYERS = (
    "core",
    "planning models storage",
    "envs agents gym",
    "layouts filters contrib",
    "datasets objectives testing",
    "training",
    "evaluation",
    "reports",
    "recipes",
    "experiments",
    "cli",
    "__init__ __main__",
)
HEIGHT = {name: height for height, row in enumerate(LAYERS) for name in row.split()}
FILES = sorted(ROOT.rglob("*.py"))


def top_name(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """The parts of icrl that a source imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "icrl":
            names |= {f"icrl.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer; write the full name"
            names.add(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith("icrl.")}


def faults(name: str, source: str) -> list[str]:
    """What is wrong with the imports of ``source``, a file of the part ``name``."""
    if name not in HEIGHT:
        return [f"{name!r} has no row in the table LAYERS; choose the lowest row that stands on all it imports"]
    found = []
    for other in sorted(imported(source) - {name}):
        if other not in HEIGHT:
            found.append(f"{name} imports {other!r}, which has no row in the table LAYERS")
        elif HEIGHT[other] >= HEIGHT[name]:
            found.append(f"{name} (row {HEIGHT[name]}) imports {other} (row {HEIGHT[other]}), not from a lower row")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    assert faults(top_name(path), path.read_text()) == []


def test_the_rule_can_fail():
    assert faults("envs", "from icrl.core.errors import require") == []
    assert faults("envs", "from icrl.envs._bandit import Bandit") == []
    assert "not from a lower row" in faults("envs", "def f():\n    from icrl.datasets.store import StoredRecords")[0]
    assert "not from a lower row" in faults("core", "from icrl import planning")[0]
    assert "no row in the table" in faults("envs", "import icrl.novelty")[0]
    assert "no row in the table" in faults("novelty", "")[0]


def test_import_icrl_and_listing_names_need_no_jax():
    """Fresh interpreter: the command line's help must not wait for jax."""
    code = (
        "import sys, icrl\n"
        "from icrl.core.registry import KINDS\n"
        "rows = [row for kind in KINDS.values() for row in kind.declared()]\n"
        "heavy = {'jax', 'jaxlib', 'flax', 'gymnax', 'optax', 'orbax', 'matplotlib'} & set(sys.modules)\n"
        "assert rows and not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_public_name_has_a_home():
    assert sorted(icrl.__all__) == sorted(["registry", *icrl._LAZY])
    assert all(getattr(icrl, name).__doc__ for name in icrl.__all__)
