"""JSON and records of lines: strict, and damaged only loudly."""

import contextlib
import json
from pathlib import Path

import pytest

from icrl.core.errors import DamagedError, InputError
from icrl.storage.documents import read_document, write_document
from icrl.storage.metrics_log import TRAINING, append_jsonl, head_of, read_jsonl, truncate_jsonl
from icrl.storage.publish import (
    publish_json,
    read_json,
)
from icrl.storage.typed import conform


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


# --- The chain of a record ---


def test_rows_taken_out_exchanged_or_doubled_are_found(tmp_path):
    record(tmp_path / "m.jsonl")
    lines = (tmp_path / "m.jsonl").read_bytes().splitlines(keepends=True)
    orders = ([1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 2, 1, 3], [1, 0, 2, 3], [0, 1, 1, 2, 3], [0, 0, 1, 2, 3], [3])
    for order in orders:
        (tmp_path / "m.jsonl").write_bytes(b"".join(lines[number] for number in order))
        first = next(place for place, number in enumerate(order) if place != number)
        with pytest.raises(DamagedError, match=rf"m\.jsonl: line {first + 1}: ") as caught:
            read_jsonl(tmp_path / "m.jsonl")
        one_line(caught.value)


def test_rows_of_another_record_are_found(tmp_path):
    record(tmp_path / "a.jsonl")
    append_jsonl(tmp_path / "b.jsonl", [{"step": n} for n in range(4)])
    a, b = ((tmp_path / name).read_bytes().splitlines(keepends=True) for name in ("a.jsonl", "b.jsonl"))
    (tmp_path / "a.jsonl").write_bytes(b"".join(a[:2] + b[2:]))
    with pytest.raises(DamagedError, match="line 3"):
        read_jsonl(tmp_path / "a.jsonl")


def test_the_head_tells_how_many_rows_there_are_and_which(tmp_path):
    rows = record(tmp_path / "m.jsonl")
    head = head_of(rows)
    assert head == head_of(read_jsonl(tmp_path / "m.jsonl")) == head_of(rows[2:], head_of(rows[:2]))
    assert head.rows == 4 and head_of([]) == (0, "00000000")
    others = [rows[:3], rows[1:], [rows[1], rows[0], *rows[2:]], [*rows[:3], {**rows[3], "loss": 0.1}]]
    assert len({head, *map(head_of, others)}) == 5
    assert json.loads((tmp_path / "m.jsonl").read_text().splitlines()[-1])["crc"] == head.crc


def test_rows_of_another_form_are_damage(tmp_path):
    for row in ({"step": 1}, {"seed": "0", "step": 1, "loss": 1.0}, {"seed": 0, "step": None, "loss": 1.0}):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        append_jsonl(path, [{"seed": 0, "step": 0, "loss": 2}, row])
        assert len(read_jsonl(path)) == 2
        with pytest.raises(DamagedError, match=r"line 2: (expected the fields|seed|step)") as caught:
            read_jsonl(path, TRAINING)
        one_line(caught.value)


def test_nothing_is_appended_to_a_record_whose_end_is_damaged(tmp_path):
    record(tmp_path / "m.jsonl")
    with open(tmp_path / "m.jsonl", "ab") as file:
        file.write(b"{}\n")
    with pytest.raises(DamagedError, match="its last line"):
        append_jsonl(tmp_path / "m.jsonl", [{"step": 9}])


# --- Documents that hold their own digest ---


def test_no_bit_flip_in_a_document_changes_what_is_read(tmp_path):
    body = {"schema": 1, "text": "some", "numbers": [0.1, 25, 1e-9], "nothing": None}
    write_document(tmp_path / "d.json", body)
    assert read_document(tmp_path / "d.json", version=("schema", 1)) == body
    data = (tmp_path / "d.json").read_bytes()
    for position in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        (tmp_path / "d.json").write_bytes(damaged)
        with contextlib.suppress(DamagedError):  # a letter of an exponent may be large
            assert read_document(tmp_path / "d.json") == body
    for size in range(len(data) - 2):
        (tmp_path / "d.json").write_bytes(data[:size])
        with pytest.raises(DamagedError) as caught:
            read_document(tmp_path / "d.json")
        one_line(caught.value)


def test_forms_name_the_field():
    form = {"a": int, "b": [{"c": (str, None)}], "d": float}
    good = {"a": 1, "b": [{"c": "x"}, {"c": None, "more": 1}], "d": 2}
    conform(good, form, "here")
    for change, said in (
        ({"a": True}, "a: expected an integer, found True"),
        ({"a": 2**70}, "a: expected an integer, found 1180591620717411303424"),
        ({"a": 1.0}, "a: expected an integer, found 1.0"),
        ({"b": {}}, "b: expected a list, found {}"),
        ({"b": [{"c": 3}]}, "b[0].c: expected a text or null, found 3"),
        ({"b": [{"c": None}, {}]}, "b[1]: expected the fields c, found no c"),
        ({"d": "2"}, "d: expected a number, found '2'"),
        ({"d": "\x1b[31m\n"}, "d: expected a number, found "),
    ):
        with pytest.raises(DamagedError) as caught:
            conform({**good, **change}, form, "here")
        assert one_line(caught.value).startswith(f"here: {said}") and str(caught.value).isprintable()
    for value in ([], None, 3, {"a": 1}):
        with pytest.raises(DamagedError, match=r"^here: expected"):
            conform(value, form, "here")
