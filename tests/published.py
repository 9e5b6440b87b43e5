"""Folders that tests of files publish, and what they look for in them."""

from pathlib import Path

from icrl.storage.publish import publishing_folder


def fill(folder: Path) -> None:
    (folder / "a.bin").write_bytes(bytes(range(256)) * 8)
    (folder / "b.bin").write_bytes(bytes(reversed(range(256))) * 8)  # the same shape as a.bin
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "c.bin").write_bytes(b"c" * 100)
    (folder / "deep" / "empty.bin").write_bytes(b"")


def publish(final: Path, meta: dict | None = None) -> None:
    with publishing_folder(final, meta or {"n": 1}) as temporary:
        fill(temporary)


def temporaries(folder: Path) -> list[str]:
    return [each.name for each in folder.rglob(".icrl-tmp-*")]


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error), str(error)
    return str(error)
