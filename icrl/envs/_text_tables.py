"""Tables as text: one example a line, numbers and then the class, the fields parted in one way throughout the file.

Semicolons part the fields if the file has any, else tabs, else commas, else blanks. Nothing is guessed: a gap, a
missing class, a comma in a number or a second way of parting is refused with its line.
"""

import csv
import math
import re

import numpy as np

from icrl.core.errors import InputError, require

COMMENTS = ("@", "%", "#")
DELIMITERS = {";": "semicolons", "\t": "tabs", ",": "commas", " ": "blanks"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
CLASSES = "a whole number or a name"
MISSING = ("", "?", "na", "nan", "n/a", "null", "none")  # as others write that they do not know


def read_text(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, d] float64 and classes [N] in 0 .. K - 1, numbered as ``numbered`` does.

    Raises:
      InputError: a line that is no example like the others.
    """
    lines = [(number, line.strip(" \r")) for number, line in enumerate(text.split("\n"), start=1)]
    lines = [(number, line) for number, line in lines if line.strip() and not line.startswith(COMMENTS)]
    require(bool(lines), "rows", "0 lines", "at least one example")
    delimiter = next(each for each in DELIMITERS if each == " " or any(each in line for _, line in lines))
    rows = [(number, _fields(line, delimiter, number)) for number, line in lines]
    first, width = rows[0][0], len(rows[0][1])
    for number, row in rows:
        hint = f"fields parted by {DELIMITERS[delimiter]}, as in line {first}"
        require(len(row) == width >= 2, f"line {number}", f"{len(row)} fields", f"{max(width, 2)}", hint)
    features = [[_number(field, number, place) for place, field in enumerate(row[:-1], 1)] for number, row in rows]
    return np.array(features, np.float64), numbered([_class(row[-1], number) for number, row in rows])


def numbered(classes: list[str]) -> np.ndarray:
    """0 .. K - 1 in the order of the classes, that of numbers where all are numbers."""
    unknown = next((place for place, each in enumerate(classes) if each.lower() in MISSING), None)
    require(unknown is None, "labels", f"none in row {unknown}", "a class in every row")
    if all(NUMBER.fullmatch(each) for each in classes):
        return np.unique(np.array(classes, np.float64), return_inverse=True)[1]
    return np.unique(np.array(classes), return_inverse=True)[1]


def _fields(line: str, delimiter: str, number: int) -> list[str]:
    if delimiter == " ":
        return line.split()
    try:
        (row,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise InputError(
            f"line {number}: got {line[:60]!r}, allowed: fields plain or in double quotes ({error})"
        ) from error
    return [field.strip() for field in row]


def _number(field: str, number: int, place: int) -> float:
    where = f"line {number}: field {place}"
    require(field.lower() not in MISSING, where, field, "a number", "there is a gap")
    hint = "write a point for a decimal comma, and part fields in one way" if "," in field or " " in field else ""
    require(NUMBER.fullmatch(field) is not None, where, field, "a number", hint)
    require(math.isfinite(float(field)), where, field, "a finite number")
    return float(field)


def _class(field: str, number: int) -> str:
    """The class that ``field`` names; a number is whole, and a name of several words does not begin with one."""
    where, parts = f"line {number}: its class, the last field", re.split(r"[\s,;]+", field)
    require(field.lower() not in MISSING, where, field, CLASSES, "it is missing")
    if NUMBER.fullmatch(field):
        require(float(field).is_integer(), where, field, CLASSES, "classes stand last, measured numbers before them")
    else:
        one = len(parts) == 1 or NUMBER.fullmatch(parts[0]) is None
        require(one, where, field, CLASSES, "part the fields of a file in one way")
    return field
