"""The experiment on aliased rooms: what it refuses, what its variants are, and rooms that differ from walk to walk."""

import dataclasses

import numpy as np
import pytest

from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.settings import replaced
from icrl.evaluation.cognitive_maps import read, walk
from icrl.experiments.tdb import BASE, TDB
from icrl.storage.publish import read_json

SMOKE = TDB.presets["smoke"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_codes": 3}, "num_codes: got 3, allowed: as many codes as the 4 symbols, or more"),
        ({"burn_in": 29}, "burn_in: got 29, allowed: below the last step of a walk, 29"),
        ({"num_targets": 0}, "num_targets: got 0"),
        ({"rows": 5}, "rows, columns, num_symbols: got"),
        ({"discrete": False, "vary": ("model=gru,lstm",)}, "discrete: got 'false', allowed: true in one variant"),
        ({"vary": ("eval_steps=20,30",)}, "vary"),
        ({"num_heads": 3}, "num_heads: got 3, allowed: a divisor of width 16"),
    ],
)
def test_bad_settings_are_refused_in_one_line(changes, words):
    with pytest.raises(InputError) as refused:
        TDB.validate(replaced(SMOKE, changes), 0)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_small_codebooks_may_together_be_enough():
    assert replaced(SMOKE, {"num_codes": 2, "num_bottlenecks": 2}).bottleneck.code_width == 16


def test_the_variants_are_the_model_and_what_it_is_compared_with():
    assert TDB.kinds(BASE) == ["TDB", "transformer", "LSTM"]
    assert TDB.kinds(TDB.presets["paper"]) == ["TDB", "transformer", "LSTM"]
    assert TDB.kinds(SMOKE) == ["TDB", "transformer"]
    variants = TDB.variants(BASE)
    assert [recipe.discrete for recipe in variants.values()] == [True, False, False]
    assert len({recipe.fit for recipe in variants.values()}) == 1


def test_codes_are_read_as_the_walk_goes_whatever_comes_later():
    """A code at step n is of the symbols up to n: walks that part behind it have the same codes until then."""
    recipe = dataclasses.replace(SMOKE, vary=())
    policy, history = recipe.new_policy(0, 0), walk(recipe.env, 0, "test", 3, 20).history
    _, codes = read(recipe.objective, policy, history)
    assert codes.shape == (3, 18, 1)
    other = history._replace(obs=history.obs.at[:, 12].set((history.obs[:, 12] + 1) % 4))
    np.testing.assert_array_equal(read(recipe.objective, policy, other)[1][:, :12], codes[:, :12])


@pytest.mark.nightly
def test_rooms_of_their_own_have_maps_of_their_own(tmp_path):
    folder = tmp_path / "run"
    assert (
        main(["run", "tdb", "--preset", "smoke", "--colouring", "fresh", "--torus", "true", "--out", str(folder)]) == 0
    )
    results = read_json(folder / "results.json")
    assert set(results["maps"]["agents"]) == {"TDB", "transformer"}  # no one room that a graph could be trained on
    assert [drawn["label"] for drawn in results["maps"]["drawn"]] == ["TDB"]


@pytest.mark.nightly
def test_a_map_is_learned_and_plans_arrive(tmp_path):
    """Half the steps of the preset cpu, 2 CPU minutes: .99 of the symbols, and most ways arrive by the fewest moves."""
    folder = tmp_path / "run"
    assert main(["run", "tdb", "--train-steps", "1500", "--vary", "", "--clones", "0", "--out", str(folder)]) == 0
    checks = read_json(folder / "results.json")["checks"]
    assert checks[0]["measured"]["mean"] >= 0.99
    assert checks[1]["measured"]["mean"] >= 0.95
    assert checks[2]["measured"]["mean"] <= 1.05
