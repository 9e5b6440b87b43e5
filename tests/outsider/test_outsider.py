"""The way of somebody else's package, from its files to a plot: installed, checked, listed, trained on, played, sent.

``my_lab`` stands beside this file, as somebody would write it who has read the documentation. Everything is done as a
user does it, in processes of their own, from a folder that is not the checkout's.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import icrl

LAB = Path(__file__).parent
SETTINGS = (
    "--preset=smoke",
    "--train-steps=4",
    "--save-every=4",
    "--log-every=2",
    "--warmup-steps=1",
    "--eval-tasks=9",
)
CHECKS = """
from icrl.testing import check_agent, check_environment, check_model
check_environment("Doors-v0")
check_agent("my_lab.players:sticky", env="Doors-v0")
check_model("fading")
"""
PLAY = """
import gymnasium, icrl
env = gymnasium.make("my_lab.worlds:icrl/Doors-v0")
agents = icrl.load_agent("run"), icrl.load_agent("agent.safetensors"), icrl.make_agent("sticky", env=env)
actions = []
for agent in agents:
    agent.reset(seed=0)
    obs, _ = env.reset(seed=0)
    actions.append([])
    over = False
    while not over:
        actions[-1].append(agent.act(obs))
        after, reward, terminated, truncated, _ = env.step(actions[-1][-1])
        agent.observe(obs, actions[-1][-1], reward, after, terminated, truncated)
        obs, over = after, terminated or truncated
assert len(actions[0]) == 10 and actions[0] == actions[1], actions
assert actions[2][:3] == [0, 1, 2] and len(set(actions[2][3:])) == 1, actions
"""


def install(site):
    """What ``pip install --target SITE`` leaves there (it would want a build backend)."""
    shutil.copytree(LAB / "my_lab", site / "my_lab", ignore=shutil.ignore_patterns("__pycache__"))
    project = tomllib.loads((LAB / "pyproject.toml").read_text())["project"]
    info = site / "my_lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [f"{name} = {module}" for name, module in project["entry-points"]["icrl.plugins"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[icrl.plugins]", *points, ""]))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A function that runs words as a program with ``my_lab`` installed, or not, and returns what it says."""
    folder = tmp_path_factory.mktemp("lab")
    install(folder / "site")
    (folder / "work").mkdir()

    def run(*words, code=0, installed=True):
        root = str(Path(icrl.__file__).parent.parent)
        path = os.pathsep.join([str(folder / "site"), root] if installed else [root])
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder / "work",
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == code, done.stderr[-2000:]
        return done.stdout + done.stderr

    return run


def test_three_files_are_short():
    lines = [line for path in (LAB / "my_lab").glob("*.py") for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= 60


@pytest.mark.nightly
def test_the_path_of_an_outsider(lab):
    kinds = json.loads(lab("-m", "icrl", "list", "--json"))
    for kind, name in (("envs", "worlds:Doors-v0"), ("agents", "players:sticky"), ("models", "nets:fading")):
        assert f"my_lab.{name}" in [row["name"] for row in kinds[kind]]
    lab("-c", CHECKS)
    competitors = ("--competitors", "sticky,uniform")
    lab("-m", "icrl", "run", "dpt", "--env", "Doors-v0", "--model", "fading", *competitors, *SETTINGS, "--out", "run")
    lab("-m", "icrl", "report", "run")
    lab("-m", "icrl", "export-agent", "run", "agent.safetensors")
    lab("-c", PLAY)
    for words in (("report", "run"), ("evaluate", "run"), ("verify", "agent.safetensors")):
        line = lab("-m", "icrl", *words, code=2, installed=False)
        assert "allowed: a module that is imported already; --allow-import my_lab.worlds" in line
