"""Whatever array a set takes comes back equal in dtype, shape and every bit; what it cannot take is refused by name."""

import tempfile
from pathlib import Path

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icrl.core.errors import InputError
from icrl.datasets import _arrays
from icrl.datasets.store import StoredRecords, store_records

NUMBERS = st.one_of(
    *(each(endianness=order) for order in "<>" for each in (arrays.integer_dtypes, arrays.unsigned_integer_dtypes)),
    *(arrays.floating_dtypes(endianness=order, sizes=(16, 32, 64)) for order in "<>"),
    *(arrays.complex_number_dtypes(endianness=order) for order in "<>"),
    arrays.boolean_dtypes(),
    st.just(np.dtype("longdouble")),
)
TIMES = st.one_of(
    *(each(endianness=order) for order in "<>" for each in (arrays.datetime64_dtypes, arrays.timedelta64_dtypes))
)
TEXT = st.one_of(arrays.byte_string_dtypes(), arrays.unicode_string_dtypes())
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
FINITE = {"allow_nan": False, "allow_infinity": False}


@st.composite
def fields(draw):
    """The field of five tasks: any values, few different ones, or one that is always the same."""
    dtype, shape = draw(st.one_of(NUMBERS, TIMES, TEXT)), (5, *draw(SHAPES))
    if dtype == np.dtype("longdouble"):  # drawn as doubles, and a part that a double does not hold
        return draw(arrays.arrays(np.float64, shape, elements=FINITE)).astype(dtype) + np.longdouble(2) ** -60
    elements = FINITE if dtype.kind in "fc" else {}
    values = arrays.from_dtype(dtype, **elements)
    if draw(st.booleans()):
        values = st.sampled_from([draw(values), draw(values)])
    return draw(arrays.arrays(dtype, shape, elements=values))


def round_trip(field: np.ndarray, shard_tasks: int = 3) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        store_records(Path(folder), lambda ids: {"x": field[ids]}, len(field), {}, shard_tasks)
        return StoredRecords(folder).fetch(np.arange(len(field)))["x"]


@settings(max_examples=120, deadline=None)
@given(fields())
def test_what_is_stored_comes_back_bit_for_bit(field):
    found = round_trip(field)
    assert (found.dtype, found.shape) == (field.dtype, field.shape)
    assert found.dtype.byteorder == field.dtype.byteorder
    if field.dtype == np.dtype("longdouble"):
        np.testing.assert_array_equal(found, field)  # its padding holds anything
    else:
        assert found.tobytes() == field.tobytes()


EXAMPLES = {
    "negative": np.array([-1, 5, 300, -70000], np.int32),
    "all negative": np.array([-3, -3, -3], np.int64),
    "least and most": np.array([-(2**63), 2**63 - 1]),
    "most of uint64": np.array([0, 2**64 - 1], np.uint64),
    "minus zero": np.array([0.0, -0.0, 0.0], np.float32),
    "constant minus zero": np.full((4, 3), -0.0),
    "complex minus zero": np.array([complex(0.0, -0.0), complex(0.0, 0.0)]),
    "big-endian whole numbers": np.array([1.0, 2.0], ">f8"),
    "no elements": np.zeros((3, 0, 2), np.float32),
    "no elements but tasks": np.zeros((3, 2, 0), "<M8[ns]"),
    "text": np.array(["a", "bcd", ""]),
    "flags": np.array([[True, False], [True, False]]),
}


@pytest.mark.parametrize("field", EXAMPLES.values(), ids=EXAMPLES.keys())
@pytest.mark.parametrize("shard_tasks", [1, 8])
def test_examples_come_back(field, shard_tasks):
    found = round_trip(field, shard_tasks)
    assert found.dtype == field.dtype and found.shape == field.shape and found.tobytes() == field.tobytes()


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (np.array([{}, None]), "dtype: got 'object'"),
        (np.zeros(2, "f4,i2"), "dtype: got "),
        (np.zeros(2, ml_dtypes.bfloat16), "dtype: got 'bfloat16'"),
        (np.zeros(2, "V3"), r"dtype: got '\|V3'"),
        (np.float32(3.0), r"shape: got \(\), allowed: \[2, ...\]"),
        (np.zeros(3), r"shape: got \(3,\), allowed: \[2, ...\]"),
        ([[1], [1, 2]], "not an array"),
    ],
    ids=str,
)
def test_what_would_not_come_back_is_refused(tmp_path, field, said):
    with pytest.raises(InputError, match=f"^field x: {said}") as caught:
        store_records(tmp_path, lambda ids: {"x": field}, 2, {})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("tasks-*")) and not list(tmp_path.glob(".icrl-tmp-*"))


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a.b", "x" * 65, "é", "a\n"])
def test_names_of_fields_are_names_of_files(tmp_path, name):
    with pytest.raises(InputError, match=r"^field: got"):
        store_records(tmp_path, lambda ids: {name: ids}, 2, {})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
def test_numbers_that_are_not_finite_are_refused_by_task_field_and_step(tmp_path, value, dtype):
    def fetch(ids):
        reward = np.ones((len(ids), 2, 9), dtype)
        reward[ids == 5, 1, 7] = value
        return {"reward": reward}

    with pytest.raises(InputError, match=r"^reward\[1, 7\] of task 5: got .*(nan|inf).*, allowed: finite numbers$"):
        store_records(tmp_path, fetch, 6, {}, 4)
    assert [path.name for path in tmp_path.glob("tasks-*")] == ["tasks-0000000000-0000000004"]


def test_small_forms_are_small():
    assert _arrays.compact(np.array([-1, 5], np.int64)).dtype == np.int8
    assert _arrays.compact(np.array([0.0, 300.0], np.float32)).dtype == np.uint16
    assert _arrays.compact(np.ones((50, 60), np.float32)).shape == (1, 1)
    assert _arrays.compact(np.arange(6.0).reshape(3, 2) // 2).shape == (3, 1)


def test_files_are_those_of_numpy(tmp_path):
    for array in (np.arange(6, dtype=">i4").reshape(2, 3), np.zeros((0, 3)), np.array(["ab", "c"])):
        _arrays.save(tmp_path / "a", array)
        with open(tmp_path / "b", "wb") as file:
            np.save(file, array)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        (tmp_path / "a").unlink()
