"""``icrl import`` of logs of bandits, row by row."""

import csv

import numpy as np
import pytest
from imports import imported, refusal
from recordings import K


def write_log(path, rows, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


COLUMNS = ("context_0", "context_1", "action", "reward", "propensity")


def log(count=100):
    draw = np.random.default_rng(0)
    return [
        [float(draw.normal()), int(draw.integers(9)), int(draw.integers(K)), int(draw.integers(2)), 0.25]
        for _ in range(count)
    ]


def test_a_log_becomes_histories_in_its_order(tmp_path):
    rows = log(107)
    stored = imported(write_log(tmp_path / "a.csv", rows, COLUMNS), tmp_path)
    assert (stored.num_tasks, stored.num_histories, stored.num_steps) == (1, 10, 10)
    record, kept = stored.fetch(np.arange(1)), np.array(rows[:100])
    np.testing.assert_array_equal(record["obs"].reshape(100, 2), kept[:, :2].astype(np.float32))
    np.testing.assert_array_equal(record["action"].reshape(100), kept[:, 2])
    np.testing.assert_array_equal(record["propensity"], np.full((1, 10, 10), 0.25, np.float32))
    assert not (record["terminated"] | record["truncated"]).any()


def test_rows_of_several_tasks_are_told_apart(tmp_path):
    rows = [[*row, "ab"[number % 2]] for number, row in enumerate(log(60))]
    path = write_log(tmp_path / "a.csv", rows, (*COLUMNS, "store"))
    stored = imported(path, tmp_path, "--task", "store", "--history-steps", "15", "--categories", "context_1")
    assert (stored.num_tasks, stored.num_histories, stored.num_steps) == (2, 2, 15)
    np.testing.assert_array_equal(stored.fetch(np.array([1]))["action"].reshape(30), [row[2] for row in rows[1::2]])


def test_open_bandit_logs_are_read_by_their_own_columns(tmp_path):
    columns = ("", "timestamp", "item_id", "position", "click", "propensity_score", "user_feature_0", "user-item_aff_0")
    rows = [[i, "2019-11-24", i % 5, 1 + i % 3, i % 2, 0.2, "abcd"[i % 4], 0.5] for i in range(60)]
    stored = imported(write_log(tmp_path / "a.csv", rows, columns), tmp_path, "--format", "obp")
    record = stored.fetch(np.arange(1))
    assert record["obs"].shape == (1, 10, 6, 3 + 4) and stored.environment().spec.num_actions == 5
    expected = np.concatenate([np.eye(3)[np.arange(60) % 3], np.eye(4)[np.arange(60) % 4]], 1)
    np.testing.assert_array_equal(record["obs"].reshape(60, 7), expected)


@pytest.mark.parametrize(
    ("row", "column", "cell", "said"),
    [
        (7, 4, 0, r"a.csv: line 9: propensity: got 0.0, allowed: a number in (0, 1], how likely the action was"),
        (7, 4, "", "a.csv: line 9: propensity: got '', allowed: a number; it is missing"),
        (2, 3, "nan", "a.csv: line 4: reward: got 'nan', allowed: a finite number"),
        (2, 2, 1.5, "a.csv: line 4: action: got 1.5, allowed: an integer in [0, 65535]"),
        (2, 0, "red", "a.csv: line 4: context_0: got 'red', allowed: a number"),
    ],
)
def test_a_cell_is_refused_by_file_line_and_column(tmp_path, capsys, row, column, cell, said):
    rows = log()
    rows[row][column] = cell
    assert said in refusal(capsys, write_log(tmp_path / "a.csv", rows, COLUMNS), tmp_path)


def test_a_missing_column_or_cell_is_named(tmp_path, capsys):
    path = write_log(tmp_path / "a.csv", log(), ("context_0", "context_1", "action", "rewards", "propensity"))
    assert "a.csv: column 'reward': missing; did you mean rewards" in refusal(capsys, path, tmp_path)
    path = write_log(tmp_path / "a.csv", [log()[0], log()[1][:4]], COLUMNS)
    assert "a.csv: line 3: cells: got 4, allowed: 5, as the header has" in refusal(capsys, path, tmp_path)
    assert "a.csv: no row: " not in refusal(capsys, write_log(tmp_path / "a.csv", [], COLUMNS), tmp_path)
