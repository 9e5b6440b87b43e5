"""A fault made by hand: a small change of one file that leaves everything running, and the test that must see it."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """What is changed, and where it is looked for."""

    what: str  # the fault in a phrase
    file: str  # below ``icrl``
    old: str  # occurs exactly once in the file
    new: str
    test: str  # below ``tests``, a node of pytest or a file, with -k WORDS behind it if it is to be a part
