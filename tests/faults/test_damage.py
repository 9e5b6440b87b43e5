"""Damage to a published folder is always found, and named in one line."""

import contextlib
import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest
from published import one_line, publish

from icrl.core.errors import DamagedError, InputError
from icrl.storage import publish as artifacts
from icrl.storage.publish import publishing_folder, verify_folder


def flips(folder: Path, count: int):
    """Single bit flips, one in four of them in the manifest."""
    chance = random.Random(2)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    for n in range(count):
        path = folder / "manifest.json" if n % 4 == 0 else chance.choice(files)
        yield path, chance.randrange(path.stat().st_size), chance.randrange(8)


@contextlib.contextmanager
def flipped(path: Path, byte: int, bit: int):
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)
    yield
    data[byte] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.nightly)])
def test_no_bit_flip_is_silent(tmp_path, count):
    publish(tmp_path / "folder", {"note": "text", "number": 1.5})
    for path, byte, bit in flips(tmp_path / "folder", count):
        with flipped(path, byte, bit), pytest.raises(DamagedError, match=re.escape(path.name)) as caught:
            verify_folder(tmp_path / "folder")
        one_line(caught.value)
    assert verify_folder(tmp_path / "folder") == {"note": "text", "number": 1.5}


def test_no_truncation_is_silent(tmp_path):
    publish(tmp_path / "folder")
    for path in sorted(path for path in (tmp_path / "folder").rglob("*") if path.is_file()):
        data = path.read_bytes()
        for size in {size for size in (0, 1, len(data) // 2, len(data) - 1) if 0 <= size < len(data)}:
            path.write_bytes(data[:size])
            with pytest.raises(DamagedError, match=re.escape(path.name)):
                verify_folder(tmp_path / "folder")
        path.write_bytes(data)
    verify_folder(tmp_path / "folder")


def damage_delete(folder: Path) -> str:
    (folder / "deep" / "er" / "c.bin").unlink()
    return r"c\.bin: expected 100 bytes, found no such file"


def damage_delete_empty(folder: Path) -> str:
    (folder / "deep" / "empty.bin").unlink()
    return r"empty\.bin: expected 0 bytes, found no such file"


def damage_swap(folder: Path) -> str:
    a, b = (folder / "a.bin").read_bytes(), (folder / "b.bin").read_bytes()
    (folder / "a.bin").write_bytes(b)
    (folder / "b.bin").write_bytes(a)
    return r"a\.bin: sha256: expected [0-9a-f]{64}, found [0-9a-f]{64}"


def damage_grow(folder: Path) -> str:
    with open(folder / "a.bin", "ab") as file:
        file.write(b"x")
    return r"a\.bin: size: expected 2048, found 2049"


def damage_add(folder: Path) -> str:
    (folder / "deep" / "new.bin").write_bytes(b"")
    return r"new\.bin: expected no such file"


def damage_manifest_gone(folder: Path) -> str:
    (folder / "manifest.json").unlink()
    return r"manifest\.json: expected a manifest, found none"


def damage_link_to_equal_file(folder: Path) -> str:
    (folder / "a.bin").rename(folder.parent / "elsewhere")
    (folder / "a.bin").symlink_to(folder.parent / "elsewhere")
    return r"a\.bin: expected a regular file, found a link"


def damage_link_to_folder(folder: Path) -> str:
    (folder / "more").symlink_to("/")
    return r"more: expected a regular file, found a link"


def damage_pipe(folder: Path) -> str:
    (folder / "a.bin").unlink()
    os.mkfifo(folder / "a.bin")
    return r"a\.bin: expected a regular file"


def damage_manifest_is_link(folder: Path) -> str:
    (folder / "manifest.json").rename(folder.parent / "manifest")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest")
    return r"manifest\.json: expected a manifest, found none"


def damage_stale_manifest(folder: Path) -> str:
    shutil.copy(folder.parent / "other" / "manifest.json", folder / "manifest.json")
    return r"d\.bin: expected 3 bytes, found no such file"


def damage_respelled_manifest(folder: Path) -> str:
    value = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(value, sort_keys=True, indent=2) + "\n")
    return r"manifest\.json: expected the form this package writes"


DAMAGES = {name[7:]: value for name, value in list(globals().items()) if name.startswith("damage_")}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_other_damage_is_named(tmp_path, damage):
    publish(tmp_path / "folder")
    with publishing_folder(tmp_path / "other", {}) as temporary:
        (temporary / "d.bin").write_bytes(b"ddd")
    message = damage(tmp_path / "folder")
    with pytest.raises(DamagedError, match=message) as caught:
        verify_folder(tmp_path / "folder")
    one_line(caught.value)


def reseal(folder: Path, change) -> None:
    """Write a hostile manifest whose own digest is right."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["digest"]
    change(manifest)
    digest = artifacts.hashlib.sha256(artifacts.encode_json(manifest)).hexdigest()
    (folder / "manifest.json").write_bytes(artifacts.encode_json({**manifest, "digest": digest}))


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../secret", "./a.bin", "deep//x", ".", "", "a\0b", "manifest.json"]
)
def test_manifest_cannot_point_outside(tmp_path, name):
    (tmp_path / "secret").write_bytes(b"secret")
    publish(tmp_path / "folder")
    reseal(tmp_path / "folder", lambda manifest: manifest["files"].update({name: manifest["files"]["a.bin"]}))
    with pytest.raises(DamagedError, match="names inside the folder") as caught:
        verify_folder(tmp_path / "folder")
    one_line(caught.value)


KINDS = [{"a.bin": {"sha256": "0" * 64, "size": 1} | wrong} for wrong in (
    {"size": "1"}, {"size": 1.0}, {"size": True}, {"size": None}, {"sha256": 3}, {"sha256": "\x1b[31m"}, {"sha256": []}
)]  # fmt: skip


@pytest.mark.parametrize("files", [[], None, {"a.bin": None}, {"a.bin": {}}, {"a.bin": {"size": 1}}, 3, *KINDS])
def test_malformed_manifest_is_damage(tmp_path, files):
    publish(tmp_path / "folder")
    reseal(tmp_path / "folder", lambda manifest: manifest.update(files=files))
    with pytest.raises(DamagedError, match="files: expected names inside the folder") as caught:
        verify_folder(tmp_path / "folder")
    one_line(caught.value)


def test_newer_schema_is_an_input_error(tmp_path):
    publish(tmp_path / "folder")
    reseal(tmp_path / "folder", lambda manifest: manifest.update(schema=2))
    with pytest.raises(InputError, match=r"manifest\.json: schema: got 2, allowed: 1"):
        verify_folder(tmp_path / "folder")


def test_missing_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        verify_folder(tmp_path / "nothing")


def test_equal_content_gives_equal_bytes_without_time_or_place(tmp_path):
    for name in ("one", "two"):
        publish(tmp_path / name, {"n": 1})
    one, two = ((tmp_path / name / "manifest.json").read_bytes() for name in ("one", "two"))
    assert one == two
    assert str(tmp_path).encode() not in one and b".icrl-tmp" not in one
