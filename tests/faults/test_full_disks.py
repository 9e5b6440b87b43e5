"""F7: a disk that is full where others write for us is one error, seen at once; what was there before stays."""

import numpy as np
import pytest
from crash_points import full_disk
from resealing import reseal_folder

from icrl.core.errors import ResourceError
from icrl.recipes.ledger import Ledger
from icrl.reports.tensorboard import write_tensorboard

ROWS = [{"step": step, "loss": 1.0} for step in range(100)]


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("size", [1, 512, 1024])  # of 1 088 bytes of a curve
def test_an_entry_of_the_ledger_that_does_not_fit_is_none(tmp_path, size):
    ledger, curves = Ledger(tmp_path / "evaluation"), {"regret": np.arange(240.0, dtype=np.float32)}
    with pytest.raises(ResourceError, match="File too large"), full_disk(size):
        ledger.once("ucb", lambda: curves)
    assert names(tmp_path) == ["evaluation"]
    assert np.array_equal(ledger.once("ucb", lambda: curves)["regret"], curves["regret"])


def test_an_entry_that_was_cut_before_it_was_sealed_is_computed_again(tmp_path):
    """As a full disk left it when ``np.save`` wrote it."""
    ledger = Ledger(tmp_path / "evaluation")
    ledger.once("ucb", lambda: {"regret": np.arange(6.0)})
    (entry,) = (tmp_path / "evaluation").iterdir()
    (entry / "regret.npy").write_bytes((entry / "regret.npy").read_bytes()[:-8])
    reseal_folder(entry)
    assert np.array_equal(ledger.once("ucb", lambda: {"regret": np.arange(7.0)})["regret"], np.arange(7.0))


@pytest.mark.parametrize("size", [100, 4096])
def test_event_files_that_do_not_fit_leave_the_old_ones(tmp_path, size):
    folder = tmp_path / "tensorboard"
    write_tensorboard(folder, ROWS[:3])
    before = names(folder)
    with pytest.raises(ResourceError, match="File too large"), full_disk(size):
        write_tensorboard(folder, ROWS)
    assert names(folder) == before and names(tmp_path)[0] == "tensorboard"
