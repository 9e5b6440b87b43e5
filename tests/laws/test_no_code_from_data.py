"""Nothing that is read becomes code, and the pinned environment has a hash for everything (SECURITY.md)."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import icrl

PACKAGE = Path(icrl.__file__).parent
ROOT = PACKAGE.parent
MODULES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml", "torch", "tarfile"}
CALLS = {"eval", "exec", "compile", "__import__", "literal_eval", "system", "popen"}
IMPORTERS = {  # of modules by name, never by one that is stored
    "__init__.py",  # the homes of the public names
    "core/foreign.py",  # what somebody named: tests/laws/test_names_of_others.py
    "core/registry.py",  # the files of the package's own rooms
    "envs/_tables.py",  # packages of the extra ``data``
}


def sins(source: str) -> list[str]:
    """What in ``source`` could turn data into code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            found += [name for name in names if name.split(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            is_regex = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "re"
            found += [name] if name in CALLS and not is_regex else []
            found += ["import_module"] if name == "import_module" else []
            for keyword in node.keywords:
                is_false = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                found += ["allow_pickle"] if keyword.arg == "allow_pickle" and not is_false else []
            if name == "load" and getattr(getattr(node.func, "value", None), "id", "") == "np":
                found += (
                    []
                    if any(each.arg == "allow_pickle" for each in node.keywords)
                    else ["np.load without allow_pickle"]
                )
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_turns_data_into_code(path):
    found = sins(path.read_text(encoding="utf-8"))
    if str(path.relative_to(PACKAGE)) in IMPORTERS:
        found = [name for name in found if name != "import_module"]
    assert not found


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from yaml import load", "eval(x)", "np.load(p)", "np.load(p, allow_pickle=True)",
     "ast.literal_eval(x)", "importlib.import_module(name)", "os.system(x)"],
)  # fmt: skip
def test_the_rule_can_fail(line):
    assert sins(line)


@pytest.mark.skipif(not (ROOT / "requirements-dev.lock").is_file(), reason="an installed package, no checkout")
def test_everything_needed_is_pinned_with_hashes_and_no_address():
    lock = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
    assert "://" not in lock and "file:" not in lock
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert all(re.match(r"[a-z0-9-]+==\S+", entry) and "--hash=sha256:" in entry for entry in entries)
    pinned = {entry.partition("==")[0] for entry in entries}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        re.match(r"[\w-]+", each)[0].lower()
        for each in (*project["dependencies"], *project["optional-dependencies"]["dev"])
    }
    assert wanted <= pinned
