"""Logs of bandits: agents and models are valued by what the log has of their choices."""

import numpy as np
import pytest

from icrl.cli import main
from icrl.core.types import EnvSpec
from icrl.datasets.foreign import store_histories
from icrl.datasets.histories import StoredHistories
from icrl.recipes import run as runs
from icrl.recipes.held_out import held_out_sections
from icrl.recipes.logged import evaluate_logs, log_of

ROWS, PIECES, K = 1200, 20, 3
GOOD, BAD = 0.8, 0.2  # chance of a reward for the action that the context asks for, and for others


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A log in which the best action is that of the largest number in the context, which the logger often misses."""
    draw = np.random.default_rng(0)
    context = np.eye(K)[draw.integers(K, size=ROWS)]
    chance = np.where(context > 0, 0.2, 0.4)
    action = (draw.random((ROWS, 1)) > chance.cumsum(1)).sum(1).clip(0, K - 1)
    reward = (draw.random(ROWS) < np.where(context[np.arange(ROWS), action] > 0, GOOD, BAD)) * 1.0
    shape = (1, PIECES, ROWS // PIECES)
    over = np.zeros(shape, bool)
    arrays = {
        "observations": context.reshape(*shape, K), "actions": action.reshape(shape), "rewards": reward.reshape(shape),
        "terminated": over, "truncated": over, "propensities": chance[np.arange(ROWS), action].reshape(shape),
    }  # fmt: skip
    made = tmp_path_factory.mktemp("log") / "data"
    store_histories(made, arrays, EnvSpec("Shop", K, (K,), 0, 1, ROWS // PIECES))
    return made


def test_an_agent_that_learns_from_the_log_is_worth_what_it_would_earn(folder):
    rows = {row[0]: row for row in evaluate_logs(StoredHistories(folder), ["linucb-disjoint", "ucb"], 0)["rows"]}
    for estimate in rows["linucb-disjoint"][1:4]:
        assert estimate["low"] <= GOOD <= estimate["high"], "the best action, found in every context"
    blind = GOOD / K + BAD * (K - 1) / K
    for estimate in rows["ucb"][1:4]:
        assert estimate["low"] <= blind <= estimate["high"], "one action, whatever the context"
    assert rows["the logging policy"][1]["mean"] == pytest.approx(0.2 * GOOD + 0.8 * BAD, abs=0.06)


def test_the_command_prints_the_table(folder, capsys):
    assert main(["evaluate-logs", str(folder), "--agent", "uniform", "--learn", "0.25"]) == 0
    told = capsys.readouterr().out
    assert "doubly robust" in told and "of 900" in told and "Learned from the first 300 rows" in told


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--agent", "lin-ts"], "features: Shop neither has nor shows any"),
        (["--agent", "oracle"], "agent: got 'oracle', allowed: an agent that acts on observations"),
        (["--learn", "1"], "learn: got 1, allowed: a finite number in (0, 1)"),
        (["--agent", "ucbb"], "unknown agent 'ucbb'; did you mean"),
    ],
)
def test_what_does_not_fit_a_log_is_refused(folder, capsys, flags, said):
    assert main(["evaluate-logs", str(folder), *flags]) == 2
    assert said in capsys.readouterr().err


def test_histories_without_propensities_are_refused_by_name(tmp_path, capsys):
    from recordings import SPEC, arrays

    store_histories(tmp_path / "data", arrays(), SPEC)
    assert main(["evaluate-logs", str(tmp_path / "data")]) == 2
    assert "allowed: histories with propensities; import a log" in capsys.readouterr().err


def test_the_report_of_a_model_has_its_value_on_the_held_out_log(folder, tmp_path):
    recipe = runs.settings_of("ad", "smoke", {"data": str(folder), "context_steps": 20})
    sections = held_out_sections({"AD": (recipe, [recipe.new_policy(0, 0)])}, tmp_path, 0)
    table = next(each for each in sections["tables"] if each["title"].startswith("Off-policy value"))
    rows = {row[0]: row for row in table["rows"]}
    assert list(rows) == ["the logging policy", "AD", "all actions alike"]
    for untrained, uniform in zip(rows["AD"][1:4], rows["all actions alike"][1:4], strict=True):
        assert untrained["mean"] == pytest.approx(float(uniform["mean"]), abs=0.1)
    assert sections["claim"].startswith("Cross-entropy of the recorded action in 5 held-out histories")
    assert log_of(StoredHistories(folder))[0].propensity.min() > 0.19
