"""What a filter did to the data: against plain loops over stored histories, and by hand."""

import itertools
import re

import numpy as np
import pytest
from return_tables import EXAMPLE, table_of

from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.flags import values_of
from icrl.core.registry import filters
from icrl.core.settings import replaced
from icrl.datasets.histories import StoredHistories
from icrl.experiments import lhf_darkroom
from icrl.filters._effect import effects
from icrl.filters._table import Selection
from icrl.recipes import data
from icrl.recipes.checks import enhancements
from icrl.recipes.measure import filter_tables
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import settings_of
from icrl.reports.numbers import short_number

SMALL = {
    "data": "histories", "env": "DarkRoom-v0", "size": 4, "horizon": 6, "train_fraction": 0.75, "train_tasks": 3,
    "histories": 5, "history_steps": 60, "context_steps": 12, "filter": "lhf", "train_seeds": 2,
}  # fmt: skip


def recipe_of(**values) -> Recipe:
    return replaced(settings_of("ad", "smoke", {}), {**SMALL, **values})


def loops(recipe, folder, seed, train_seed):
    """The same quantities of the data before and after, history by history and transition by transition."""
    rows = []  # (task, returns, Rmax, made by the uniform player)
    for part in ("source", "random"):
        for path in sorted(folder.glob(f"data/{part}-*")):
            stored, taken = StoredHistories(path), {"source": 5, "random": 2}[part]
            taken = 3 if part == "source" and recipe.data.noisy_fraction else taken
            for position in range(stored.num_tasks):
                for history in stored.of_task(position)[:taken]:
                    returns = [float(history.reward[k * 6 : k * 6 + 6].sum()) for k in range(10)]
                    rows.append(
                        (
                            stored.card["task_ids"][position],
                            returns,
                            stored.card["optimal_return"][position],
                            part == "random",
                        )
                    )
    table = table_of([row[1] for row in rows], [row[0] for row in rows], [row[2] for row in rows])
    chosen = filters["lhf"]().select(table, np.random.default_rng([seed, train_seed, 0]))
    found = []
    for kept in (rows, [rows[i] for i in chosen.index]):
        gains, stable, spread = [], [], []
        for task, returns, best, _ in kept:
            falls = [b - a for a, b in itertools.pairwise(returns) if b < a]
            gains.append((sum(returns) / 10 + max(returns) - min(returns)) / (2 * best))
            stable.append(1 + (sum(falls) / len(falls) if falls else 0.0) / best)
            peers = [sum(other) / 10 for each, other, _, _ in kept if each == task]
            spread.append((sum(returns) / 10 - sum(peers) / len(peers)) ** 2)
        found.append({
            "mean return": sum(sum(row[1]) for row in kept) / (10 * len(kept)),
            "improvement": sum(gains) / len(kept),
            "stability": sum(stable) / len(kept),
            "sd in a task": (sum(spread) / len(kept)) ** 0.5,
            "distinct histories": len(set(chosen.index.tolist())) if kept is not rows else len(rows),
            "uniform player's share": sum(row[3] for row in kept) / len(kept),
        })  # fmt: skip
    return found


def check_against_loops(recipe, folder):
    """The recipe's effects, once they are what plain loops say."""
    found = data.filter_effects(recipe, folder, 7)
    for train_seed, effect in enumerate(found):
        before, after = loops(recipe, folder, 7, train_seed)
        for name, (was, then) in effect.items():
            assert (was, then) == pytest.approx((before[name], after[name]), rel=1e-6), name
    return found


def test_numbers_of_the_table_are_those_of_plain_loops(tmp_path):
    recipe = recipe_of(noisy_fraction=0.4)
    data.collect_histories(recipe, tmp_path, 7)
    found = check_against_loops(recipe, tmp_path)
    assert len(found) == 2 and "uniform player's share" in found[0]
    (table,) = filter_tables({"noisy": recipe}, tmp_path, 7)
    row = dict(zip(table["columns"], table["rows"][0], strict=True))
    then = np.mean([effect["mean return"].after for effect in found])
    assert row["of the histories"] == "mean return" and row["filtered"] == pytest.approx(then)
    assert float(row["change"].rstrip("%")) == pytest.approx(100 * (then / row["collected"] - 1), abs=0.05)


def test_sources_share_out_the_histories_of_a_task(tmp_path, capsys):
    recipe = recipe_of(source=("oracle", "uniform"))
    data.collect_histories(recipe, tmp_path, 7)
    assert "uniform player's share" not in check_against_loops(recipe, tmp_path)[0]
    assert data.histories_by_source(recipe) == {"oracle": 3, "uniform": 2}
    stored = data.source_histories(recipe, tmp_path)
    assert stored.card["source"] == "oracle, uniform" and stored.card["histories"] == 5
    returns = stored.episode_returns().reshape(3, 5, 10)
    np.testing.assert_array_equal(returns[:, :3].min((1, 2)), stored.card["optimal_return"])
    assert (returns[:, 3:].mean((1, 2)) < stored.card["optimal_return"]).all()
    assert main(["filter", str(stored.folder), "--seed", "7", "--filter", "lhf"]) == 0
    shown = {line[:18].strip(): line[18:].split() for line in capsys.readouterr().out.splitlines()[1:]}
    before, after = data.filter_effects(recipe, tmp_path, 7)[0]["mean return"]
    assert shown["mean return"] == [short_number(before, 4), short_number(after, 4), f"{after / before - 1:+.1%}"]
    assert shown["distinct histories"][0] == "15"
    assert main(["filter", str(stored.folder), "--lam", "-1"]) == 2
    assert "lam: got -1.0, allowed: a finite number in [0, " in capsys.readouterr().err


def test_histories_used_from_an_episode_on_by_hand():
    table = table_of([*EXAMPLE[:2], [3, 3, 3, 3, 3]], [0, 0, 1], [5.0, 5.0, 0.0])  # nothing can be gained in task 1
    with pytest.raises(InputError, match="above the task's minimal_return"):
        filters["lhf"]().select(table, np.random.default_rng(0))
    found = effects(table, Selection(np.array([0, 0, 1, 2]), np.array([2, 2, 0, 0])))
    assert found["mean return"] == pytest.approx((31 / 15, (2 * 9 + 5 + 15) / 16))
    assert found["improvement"] == pytest.approx(((0.62 + 0.1) / 2, (2 * (3 + 3) / 10 + 0.1) / 3))
    assert found["stability"] == pytest.approx(((0.8 + 1) / 2, 1.0))
    assert found["sd in a task"] == pytest.approx((np.sqrt(0.72 / 3), np.sqrt(24 / 9) / 2))
    assert found["distinct histories"] == (3, 3)
    assert "improvement" not in effects(table, Selection(np.array([2]), np.array([0])))
    with pytest.raises(InputError, match="selection: got 'history 3', allowed: one of the 3 in the table"):
        effects(table, Selection(np.array([3]), np.array([0])))
    with pytest.raises(InputError, match="selection: got 'no history', allowed: at least one"):
        effects(table, Selection(np.array([], int), np.array([], int)))


def test_without_a_filter_there_is_no_table(tmp_path):
    assert filter_tables({"AD": recipe_of(filter="keep-all")}, tmp_path, 0) == []


def test_every_filter_of_a_grid_is_held_against_none():
    recipe = recipe_of(vary=("noisy_fraction=0.0,0.4", "filter=keep-all,lhf,top"))
    renamed = {"noisy fraction 0.0, filter lhf": "LHF, clean"}
    labels = [renamed.get(label, label) for label in recipe.variants()]
    rewards = np.random.default_rng(0).uniform(1, 2, (2, 4, recipe.eval_steps))
    measured = {label: {"reward": rewards + number} for number, label in enumerate(labels)}
    rows = enhancements(renamed)(recipe, measured)
    assert [row["what"] for row in rows] == [
        f"E of {name}, {how}" for name in labels if "keep-all" not in name for how in ("raw", "trailing mean of 20")
    ]
    base = 6 * 1.5  # about: six steps of rewards in [1, 2]
    assert rows[0]["measured"]["mean"] == pytest.approx(6 * 1 / base, rel=0.05)


WORDS = re.findall(r"^    (--.*)$", lhf_darkroom.__doc__, re.M)


@pytest.mark.parametrize("words", WORDS)
def test_the_commands_of_the_docstring_are_runs_that_fit(words):
    preset = settings_of("lhf-darkroom", "cpu", {})
    settings = replaced(preset, values_of(preset, words.split()))
    lhf_darkroom.LHFDarkRoom.validate(settings, 0)
    assert settings.vary and len(WORDS) == 10
