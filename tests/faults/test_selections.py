"""What a filter chose, as a file: it comes back, damage is found, and it fits its data set only."""

import json

import numpy as np
import pytest
from return_tables import some_table

from icrl.core.errors import DamagedError, InputError
from icrl.filters._selection import load_selection, provenance_of, save_selection
from icrl.filters._table import Selection
from icrl.filters.lhf import LHF
from icrl.storage.documents import digest_of


@pytest.fixture
def stored(tmp_path):
    table, settings = some_table(), LHF(lam=0.5)
    selection = settings.select(table, np.random.default_rng(9))
    origin = provenance_of("lhf", settings, table, 9, "d1")
    path = tmp_path / "selection.json"
    save_selection(path, selection, origin)
    return path, selection, origin


def test_a_selection_comes_back(stored):
    path, selection, origin = stored
    loaded, told = load_selection(path, "d1")
    for a, b in zip(selection, loaded, strict=True):
        np.testing.assert_array_equal(a, b)
        assert b.dtype == np.int64
    assert told == origin
    assert LHF(**told["settings"]) == LHF(lam=0.5) and told["seed"] == 9


def test_a_selection_for_another_data_set_is_refused(stored):
    with pytest.raises(InputError, match=r"selection.json: dataset: got 'd1', allowed: 'd2'") as caught:
        load_selection(stored[0], "d2")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("index", [0, 40], r"index: expected integers in \[0, 40\), found 40"),
        ("index", [-1, 3], "found -1"),
        ("index", [True, 3], "found True"),
        ("index", [None, 3], "found None"),
        ("index", [1.0, 3], "found 1.0"),
        ("index", [], "index: expected a list"),
        ("index", [10**30], "found 10"),
        ("first_episode", [12] * 40, r"first_episode: expected integers in \[0, 12\), found 12"),
        ("first_episode", [0], "first_episode: expected 40 values, found 1"),
        ("provenance", {"dataset": "d1"}, "provenance: expected the fields"),
    ],
)
@pytest.mark.parametrize("resealed", [False, True])
def test_damage_is_found(stored, field, value, message, resealed):
    path = stored[0]
    body = json.loads(path.read_text()) | {field: value}
    if resealed:  # even when somebody made the digest fit again
        body["sha256"] = digest_of({key: body[key] for key in body.keys() - {"sha256"}})
    path.write_text(json.dumps(body))
    with pytest.raises(DamagedError, match=message if resealed else "sha256: expected") as caught:
        load_selection(path, "d1")
    assert "\n" not in str(caught.value) and "selection.json" in str(caught.value)


def test_files_that_are_no_selection_are_refused(stored, tmp_path):
    path = stored[0]
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(DamagedError, match="not strict JSON"):
        load_selection(path, "d1")
    path.write_text("[]")
    with pytest.raises(DamagedError, match="expected a dictionary"):
        load_selection(path, "d1")
    with pytest.raises(InputError, match="No such file"):
        load_selection(tmp_path / "none.json", "d1")


def test_only_fitting_selections_are_saved(stored):
    path, selection, origin = stored
    before = path.read_bytes()
    for wrong in (
        selection._replace(index=selection.index + 1000),
        selection._replace(first_episode=selection.first_episode[1:]),
        selection._replace(index=selection.index / 2),
        Selection(np.zeros(0, np.int64), np.zeros(0, np.int64)),
    ):
        with pytest.raises(InputError, match="selection: got"):
            save_selection(path, wrong, origin)
    with pytest.raises(InputError, match="provenance"):
        save_selection(path, selection, {"seed": 1})
    with pytest.raises(InputError, match="settings: got 'LHF'"):
        provenance_of("top", LHF(), some_table(), 9, "d1")
    assert path.read_bytes() == before
