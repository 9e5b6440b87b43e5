"""Text tables against pandas: what both read is equal, and what pandas has to guess about is refused with its line."""

import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icrl.core.errors import InputError
from icrl.envs._text_tables import read_text

pandas = pytest.importorskip("pandas")

DELIMITERS = {";": ";", "\t": "\t", ",": ",", " ": r"\s+"}  # ours to pandas'
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-1e6, 1e6).map("{:.4f}".format),
    st.integers(-(10**6), 10**6).map(str),
    st.sampled_from(["+1.5", ".5", "5.", "1E3", "-0", "007"]),
)
WORDS = st.text("abcXYZ-_", min_size=1, max_size=5).filter(lambda word: word.lower() not in ("na", "nan"))
CLASSES = st.one_of(st.just(WORDS), st.just(st.integers(-9, 99).map(str)))


@st.composite
def tables(draw):
    """Rows of text and their delimiter."""
    width, delimiter, classes = draw(st.integers(1, 4)), draw(st.sampled_from(sorted(DELIMITERS))), draw(CLASSES)
    row = st.tuples(*[NUMBERS] * width, classes).map(list)
    return draw(st.lists(row, min_size=1, max_size=6)), delimiter


def text_of(rows, delimiter, end="\n"):
    return end.join(map(delimiter.join, rows)) + end


def by_pandas(text, delimiter):
    source, parted = io.StringIO(text), DELIMITERS[delimiter]
    table = pandas.read_csv(source, header=None, sep=parted, skipinitialspace=True)
    labels = np.unique(table.iloc[:, -1].to_numpy(), return_inverse=True)[1]
    return table.iloc[:, :-1].to_numpy(np.float64), labels


@settings(max_examples=200, deadline=None)
@given(tables(), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_tables_are_those_that_pandas_reads(table, blanks, end):
    rows, delimiter = table
    text = text_of(rows, delimiter + " " * blanks, end)
    features, labels = read_text(text.replace("\r\n", "\n") if blanks else text)
    wanted, wanted_labels = by_pandas(text, delimiter)
    np.testing.assert_allclose(features, wanted, rtol=1e-13, atol=1e-300)
    np.testing.assert_array_equal(labels, wanted_labels)


@settings(max_examples=200, deadline=None)
@given(tables(), st.data())
def test_what_pandas_reads_as_missing_or_as_text_is_refused_with_its_line(table, data):
    rows, delimiter = table
    line = data.draw(st.integers(0, len(rows) - 1))
    place = data.draw(st.integers(0, len(rows[0]) - 1))
    is_class = place == len(rows[0]) - 1
    harms = ["", "?", "NaN"] if is_class else ["", "?", "NaN", "1,5", "x", "1 5", "1_0", "0x10"]
    taken = [harm for harm in harms if delimiter != " " or harm not in ("", "1 5")]
    rows[line][place] = data.draw(st.sampled_from([harm for harm in taken if delimiter not in harm]))
    with pytest.raises(InputError, match=r"^line \d+: [^\n]*$") as caught:
        read_text(text_of(rows, delimiter))
    if "," not in rows[line][place]:  # a comma may be taken for what parts the fields: then another line is odd
        assert re.match(rf"line {line + 1}: ", str(caught.value)), str(caught.value)
