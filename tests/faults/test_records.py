"""JSON and records of lines: strict, and damaged only loudly."""

import json
from pathlib import Path

import pytest

from icrl.core.errors import DamagedError, InputError
from icrl.storage.metrics_log import append_jsonl, read_jsonl, truncate_jsonl
from icrl.storage.publish import (
    publish_json,
    read_json,
)


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error), str(error)
    return str(error)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"b": {"a": 1, "a": 1}}',
        '{"a": NaN}',
        "[Infinity]",
        "[-Infinity]",
        "[1e999]",
        "",
        "{",
        '{"a": 1} x',
        "{'a': 1}",
        "\ufeff{}",
        "[" * 100_000,
        "[" + "9" * 5000 + "]",
    ],
)
def test_loose_json_is_damage(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DamagedError, match=r"x\.json: not strict JSON") as caught:
        read_json(tmp_path / "x.json")
    one_line(caught.value)


def test_json_round_trip_and_refusals(tmp_path):
    value = {"b": [1, 2.5, None, True, "é\n\ud800"], "a": {}}
    publish_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    text = (tmp_path / "x.json").read_text()
    assert text.endswith("}\n") and text.index('"a"') < text.index('"b"')
    (tmp_path / "bad.json").write_bytes(b"\xff")
    with pytest.raises(DamagedError):
        read_json(tmp_path / "bad.json")
    with pytest.raises(InputError, match="No such file"):
        read_json(tmp_path / "none.json")
    for value in (float("nan"), float("inf"), object(), {1: 2, "1": {3}}):
        with pytest.raises(InputError):
            publish_json(tmp_path / "x.json", value)


def record(path: Path) -> list[dict]:
    rows = [{"step": n, "loss": 1.5 / (n + 1), "note": "é"} for n in range(4)]
    append_jsonl(path, rows[:2])
    append_jsonl(path, rows[2:])
    return rows


def test_record_round_trip(tmp_path):
    rows = record(tmp_path / "m.jsonl")
    assert read_jsonl(tmp_path / "m.jsonl") == rows
    assert all("crc" in json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines())
    truncate_jsonl(tmp_path / "m.jsonl", lambda row: row["step"] < 3)
    append_jsonl(tmp_path / "m.jsonl", rows[3:])
    assert read_jsonl(tmp_path / "m.jsonl") == rows, "a step is missing or doubled"
    truncate_jsonl(tmp_path / "none.jsonl", lambda row: True)
    assert not (tmp_path / "none.jsonl").exists()
    for row in ({}, {"crc": 1}, {"x": float("nan")}, {"x": object()}):
        with pytest.raises(InputError):
            append_jsonl(tmp_path / "m.jsonl", [row])
    assert read_jsonl(tmp_path / "m.jsonl") == rows


def test_record_cut_anywhere_loses_only_the_torn_line(tmp_path):
    rows = record(tmp_path / "m.jsonl")
    data = (tmp_path / "m.jsonl").read_bytes()
    for size in range(len(data) + 1):
        (tmp_path / "m.jsonl").write_bytes(data[:size])
        whole = data[:size].count(b"\n")
        assert read_jsonl(tmp_path / "m.jsonl") == rows[:whole]
        if size % 7 == 0:
            append_jsonl(tmp_path / "m.jsonl", rows[whole:])
            assert (tmp_path / "m.jsonl").read_bytes() == data


def test_no_bit_flip_in_a_record_is_silent(tmp_path):
    record(tmp_path / "m.jsonl")
    data = (tmp_path / "m.jsonl").read_bytes()
    for position in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        (tmp_path / "m.jsonl").write_bytes(damaged)
        line = data[: position // 8].count(b"\n") + 1
        with pytest.raises(DamagedError, match=rf"m\.jsonl: line {line}:"):
            read_jsonl(tmp_path / "m.jsonl")
    with pytest.raises(DamagedError):
        append_jsonl(tmp_path / "m.jsonl", [{"step": 9}])  # the last flip hit the last newline
