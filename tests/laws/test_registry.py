"""The registries: names, duplicates, near names, and one new file as the only edit."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.registry import KINDS, Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that writes ``toy_package``, holding a registry ``toys`` and the given files, and returns its name."""

    def write(**files: str) -> str:
        (tmp_path / "toy_package").mkdir()
        files = {"__init__": 'from icrl.core.registry import Registry\n\ntoys = Registry("toy", __name__)\n', **files}
        for stem, source in files.items():
            (tmp_path / "toy_package" / f"{stem}.py").write_text(source)
        return "toy_package"

    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    for name in [name for name in sys.modules if name.startswith("toy_package")]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
def test_declared_names_are_the_registered_ones(kind):
    registry = KINDS[kind]
    declared = [row.name for row in registry.declared()]
    assert declared == sorted(set(declared))
    assert declared == list(registry)
    assert len(registry) == len(declared)
    assert all(registry.entry(row.name).file == row.file for row in registry.declared())
    assert all(registry.entry(row.name).paper == row.paper for row in registry.declared())


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_says_what_it_is(kind):
    for name in KINDS[kind]:
        entry = KINDS[kind].entry(name)
        assert entry.item.__doc__, f"{name} has no docstring"
        assert entry.paper, f"{name} names no paper; write '-' if there is none"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_registers_nothing_begins_with_an_underscore(kind):
    folder = Path(importlib.util.find_spec(KINDS[kind].package).origin).parent
    registering = {row.file.rpartition(".")[2] for row in KINDS[kind].declared()}
    assert {path.stem for path in folder.glob("*.py") if path.stem[0] != "_"} == registering
    assert all(
        "icrl.core" in path.read_text() and ".register(" not in path.read_text() for path in folder.glob("_[a-z]*.py")
    )


def test_one_new_file_is_enough(package):
    ant = 'from toy_package import toys\n\n@toys.register("ant-v0", paper="A 1999")\ndef ant():\n    "An ant."\n'
    package(ant=ant, empty="")
    from toy_package import toys

    assert toys.declared() == [("ant-v0", "A 1999", "toy_package.ant")]
    assert "toy_package.ant" not in sys.modules  # reading the declarations imports nothing
    assert list(toys) == ["ant-v0"]
    assert toys["ant-v0"].__doc__ == "An ant."
    assert toys.entry("ant-v0")[2:] == ("A 1999", "toy_package.ant")


def test_a_name_belongs_to_one_thing(package):
    registry = Registry("toy", package())
    registry.register("ant")(test_one_new_file_is_enough)
    registry.register("ant")(test_one_new_file_is_enough)  # the same source again, as on a reload
    with pytest.raises(InputError, match="toy 'ant' is already registered by"):
        registry.register("ant")(test_a_name_belongs_to_one_thing)
    assert registry["ant"] is test_one_new_file_is_enough


def test_unknown_names_get_the_near_ones(package):
    registry = Registry("toy", package())
    for name in ("ant", "bee", "beetle"):
        registry.register(name)(test_a_name_belongs_to_one_thing)
    with pytest.raises(InputError, match="unknown toy 'beetl'; did you mean beetle, bee"):
        registry["beetl"]
    with pytest.raises(InputError, match="known: ant, bee, beetle"):
        registry["zzzz"]
    assert "zzzz" not in registry


@pytest.mark.parametrize("name", [0, float("nan"), None, [], {}, np.ones(2), ("a",)], ids=str)
def test_what_is_no_name_is_refused(name):
    for registry in KINDS.values():
        with pytest.raises(InputError, match=f"^{registry.kind}: got .*, allowed: the name of a registered") as caught:
            registry[name]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "-a", "a\n", "ä", "a" * 65])
def test_bad_names_are_refused(name, package):
    with pytest.raises(InputError, match="toy name"):
        Registry("toy", package()).register(name)
