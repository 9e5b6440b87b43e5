"""Every script of ``examples`` runs, at the size of seconds: the cheap ones by day, all by night."""

import importlib.util
import sys

import pages
import pytest

EXAMPLES = pages.ROOT / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))

# What ``main`` is given instead of its defaults; ``out`` is a folder of the test's.
SMALL = {
    "ad_on_minari": {"num_episodes": 60, "train_steps": 2},
    "against_stable_baselines3": {"train_steps": 2, "num_tasks": 1, "ppo_steps": 100},
    "off_policy": {"num_rows": 500, "num_logs": 3},
    "own_bandit": {"num_tasks": 10, "num_steps": 20, "lawful": False},
    "own_filter": {"train_steps": 2},
    "own_gridworld": {"num_tasks": 2, "num_steps": 40},
    "own_model": {"train_steps": 2},
    "share_agent": {"train_steps": 2},
    "sweep": {"train_steps": 2, "eval_tasks": 4},
    "ucb_vi_on_frozen_lake": {"num_episodes": 60},
}
BY_DAY = ("off_policy", "own_bandit", "share_agent", "ucb_vi_on_frozen_lake")


@pytest.fixture
def example(forgotten, monkeypatch):
    """The module of a script by its name; on import it does nothing but register."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def by_day(name):
    marks = [] if name in BY_DAY else [pytest.mark.nightly]
    if name == "ad_on_minari":  # which warns of a dataset without an author, and leaves its temporary folder to Python
        warnings = ("UserWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
        marks += [pytest.mark.filterwarnings(f"ignore::{each}") for each in warnings]
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [by_day(name) for name in NAMES])
def test_examples_run(name, example, tmp_path, monkeypatch, compiles_much):
    if name == "against_stable_baselines3":
        pytest.importorskip("stable_baselines3")
    monkeypatch.chdir(tmp_path)
    assert example(name).main(**SMALL[name]) is not None


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_short_and_say_how_to_run_them(name):
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert f"    python examples/{name}.py" in text


def test_there_are_ten():
    assert set(NAMES) == set(SMALL)


def test_ucb_vi_reaches_the_goal_where_uniform_play_does_not(example):
    reached = example("ucb_vi_on_frozen_lake").main(num_episodes=60)
    assert reached["ucb-vi"] > 0.5 > reached["uniform"]
