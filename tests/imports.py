"""``icrl import`` in tests: what it makes of a source, and how it refuses one."""

import numpy as np
from recordings import N, R, T, arrays

from icrl.cli import main
from icrl.datasets.histories import StoredHistories


def imported(source, tmp_path, *flags):
    """The set that the command makes of ``source``."""
    assert main(["import", str(source), str(tmp_path / "set"), *flags]) == 0
    return StoredHistories(tmp_path / "set")


def refusal(capsys, source, tmp_path, *flags) -> str:
    """The one line with which a source is refused; nothing of it stays."""
    capsys.readouterr()
    assert main(["import", str(source), str(tmp_path / "bad"), *flags]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("icrl: ")]
    assert len(lines) == 1 and not (tmp_path / "bad").exists()
    return lines[0]


def same(stored, given):
    record = stored.fetch(np.arange(stored.num_tasks))
    for name, field in (("obs", "observations"), ("action", "actions"), ("reward", "rewards")):
        np.testing.assert_array_equal(record[name], given[field].astype(record[name].dtype), err_msg=name)
    for name in ("terminated", "truncated"):
        np.testing.assert_array_equal(record[name], given[name], err_msg=name)


def real(seed=0):
    """Histories with observations of real numbers."""
    given = arrays(seed)
    return {**given, "observations": np.random.default_rng(seed).normal(size=(N, R, T, 2)).astype(np.float32)}
