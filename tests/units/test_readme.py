"""The README's code runs, and its table says what exists."""

import re
import shutil
from pathlib import Path

import pytest

from icrl.core.registry import KINDS

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_every_registered_name_stands_in_the_table():
    for registry in KINDS.values():
        for declared in registry.declared():
            file = declared.file.replace(".", "/") + ".py"
            rows = [line for line in README.splitlines() if f"| `{declared.name}`" in line]
            assert any(f"`{file}`" in row for row in rows), f"README.md has no row for {declared.name} in {file}"


def test_the_two_commands_are_there():
    for command in ("pip install -e '.[dev]'", "icrl run dpt-bandit", "pytest"):
        assert command in README


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory):
    from icrl.cli import main

    folder = tmp_path_factory.mktemp("readme")
    flags = ["--num-arms", "5", "--horizon", "200", "--train-steps", "5", "--eval-tasks", "5", "--offline-tasks", "5"]
    flags += ["--competitors", "posterior-gaussian", "--offline-competitors", "posterior-gaussian"]
    assert main(["run", "dpt-bandit", "--preset", "smoke", *flags, "--out", str(folder / "runs" / "dpt-bandit")]) == 0
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run(block, smoke_run, tmp_path, monkeypatch):
    shutil.copytree(smoke_run / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
