"""The folder of a run: one writer, the stored settings, one clear line per error.

The holder of the lock runs in a child (this file as a script), which never imports jax.
"""

import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash_points import child_environment
from resealing import OTHER_KINDS, places, put, reseal_document

from icrl.core.errors import DamagedError, IcrlError, InputError, LockedError
from icrl.storage import lock
from icrl.storage.publish import (
    publish_json,
    read_json,
)
from icrl.storage.run_folder import FLAGS, RunLock, identity_of, open_run_folder, read_config

CONFIG = {"env": "bandit", "model": {"width": 64, "layers": 2}, "lr": 1e-3}


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error), str(error)
    return str(error)


# --- One writer ---


def child_hold(root: Path) -> None:
    with RunLock(root, "first"):
        print("held", flush=True)
        time.sleep(60)


def test_second_writer_is_told_who_holds_and_a_killed_holder_frees(tmp_path):
    command, environment = [sys.executable, __file__, tmp_path], child_environment()
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    host = re.escape(platform.node())
    try:
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with (
            pytest.raises(LockedError, match=rf"pid {holder.pid} on {host}, run first, since 20") as caught,
            RunLock(tmp_path, "b"),
        ):
            pass
        assert time.monotonic() - began < 1 and caught.value.exit_code == 4
        with pytest.raises(LockedError):
            open_run_folder(tmp_path, CONFIG, resume=False)
        assert [each.name for each in tmp_path.iterdir()] == [".lock"]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with RunLock(tmp_path, "second"), pytest.raises(LockedError, match=rf"pid {os.getpid()} on {host}, run second"):
        RunLock(tmp_path, "third").__enter__()
    with RunLock(tmp_path, "third"):
        pass


def test_lock_file_content_only_informs(tmp_path):
    for content in (b"", b"\xff\x00", b"[]", b'{"pid": "x"}', b'{"pid":1,"run_id":"\\u001b[31m\\n","started":""}'):
        with RunLock(tmp_path, "a"):
            (tmp_path / ".lock").write_bytes(content)
            with pytest.raises(LockedError) as caught:
                RunLock(tmp_path, "b").__enter__()
            assert one_line(caught.value).isprintable()


def test_lock_does_not_follow_links(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError):
        RunLock(tmp_path, "a").__enter__()
    with pytest.raises(InputError):
        RunLock(tmp_path / "nothing", "a").__enter__()
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_lock_file_that_somebody_removed_lets_nobody_in(tmp_path):
    with RunLock(tmp_path, "first"):
        (tmp_path / ".lock").unlink()
        with pytest.raises(LockedError, match="another process is writing here") as caught:
            RunLock(tmp_path, "second").__enter__()
        one_line(caught.value)
    with RunLock(tmp_path, "second"):
        assert json.loads((tmp_path / ".lock").read_text())["run_id"] == "second"


def test_the_lock_is_on_the_file_of_that_name_where_folders_cannot_be_locked(tmp_path, monkeypatch):
    """The file is exchanged between being opened and being locked, and the file system locks no folders."""
    real, exchanged = fcntl.flock, []

    def flock(descriptor, operation):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EBADF, "no locks on folders")
        if not exchanged:
            exchanged.append((tmp_path / ".lock").unlink())
            (tmp_path / ".lock").write_bytes(b"")
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunLock(tmp_path, "first"), pytest.raises(LockedError, match="run first"):
        RunLock(tmp_path, "second").__enter__()


def test_the_lock_tells_of_host_and_run(tmp_path):
    out = open_run_folder(tmp_path / "run", CONFIG, resume=False)
    with RunLock(out, "dpt-bandit"), pytest.raises(LockedError) as caught:
        RunLock(out, "second").__enter__()
    assert f"on {platform.node()}, run dpt-bandit {identity_of(out)['run']}, since" in one_line(caught.value)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("locks_folders", [True, False])
def test_the_second_of_two_new_runs_is_told_who_holds_the_folder(tmp_path, monkeypatch, locks_folders):
    real = fcntl.flock

    def flock(descriptor, operation):
        if os.path.isdir(f"/proc/self/fd/{descriptor}") and not locks_folders:
            raise OSError(errno.EBADF, "no locks on folders")
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    out = open_run_folder(tmp_path / "run", CONFIG, resume=False)
    with RunLock(out, "dpt-bandit"):
        before = contents(out)
        for resume in (False, True):
            with pytest.raises(LockedError, match=rf"pid {os.getpid()} on .*, run dpt-bandit [0-9a-f]{{16}}, since"):
                open_run_folder(out, CONFIG, resume=resume)
        assert contents(out) == before
    refuse("already holds a run; pass --resume", out, CONFIG, resume=False)
    assert contents(out) == before


def test_who_only_looks_keeps_nobody_out(tmp_path, monkeypatch):
    """A look that falls on the moment in which a run takes its lock is waited for."""
    look, naps = os.open(tmp_path, os.O_RDONLY), []
    fcntl.flock(look, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda seconds: naps.append(seconds) or len(naps) < 3 or os.close(look))
    with RunLock(tmp_path, "first"):
        assert len(naps) == 3


def test_a_system_without_file_locks_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    with pytest.raises(InputError, match="cannot be locked on this system") as caught:
        RunLock(tmp_path, "first").__enter__()
    one_line(caught.value)


# --- The folder of a run ---


def refuse(match: str, *args, **kwargs) -> None:
    with pytest.raises(InputError, match=match) as caught:
        open_run_folder(*args, **kwargs)
    one_line(caught.value)


def test_new_run_and_resume(tmp_path):
    out = open_run_folder(tmp_path / "a" / "run", CONFIG, resume=False, device="cpu:1")
    stored = read_json(out / "config.json")
    assert stored["settings"] == CONFIG and stored["device"] == "cpu:1" and stored["versions"]["jax"]
    assert str(tmp_path) not in (out / "config.json").read_text()
    before = (out / "config.json").read_bytes()
    assert open_run_folder(out, CONFIG, resume=True, device="cpu:1") == out
    assert (out / "config.json").read_bytes() == before
    refuse("already holds a run; pass --resume to continue it, or another --out", out, CONFIG, resume=False)


def test_resume_with_other_settings_lists_each(tmp_path):
    out = open_run_folder(tmp_path / "run", CONFIG, resume=False)
    other = {"env": "bandit", "model": {"width": 128, "layers": 2.0}, "seed": 1}
    with pytest.raises(InputError) as caught:
        open_run_folder(out, other, resume=True)
    assert (
        "lr (stored 0.001, given nothing); model.layers (stored 2, given 2.0); "
        "model.width (stored 64, given 128); seed (stored nothing, given 1)" in one_line(caught.value)
    )
    open_run_folder(out, other, resume=True, ignore=("lr", "model", "seed"))
    refuse(
        r"settings: model\.width \(stored 64", out, {**CONFIG, "model": {"width": 1}}, True, ignore=("model.layers",)
    )


def test_changed_machine_is_a_warning(tmp_path, caplog):
    out = open_run_folder(tmp_path / "run", CONFIG, resume=False, device="cpu:1")
    open_run_folder(out, CONFIG, resume=True, device="gpu:8")
    assert 'device was "cpu:1", is "gpu:8" now' in caplog.text


def test_refused_folders_stay_untouched(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    refuse("file: .*a folder|this is a file", tmp_path / "file", CONFIG, resume=False)
    refuse("a name that is no file", tmp_path / "file" / "below", CONFIG, resume=False)
    refuse("holds no run to resume; leave out --resume", tmp_path / "none", CONFIG, resume=True)
    refuse("a path without NUL", "a\0b", CONFIG, resume=False)
    refuse("a path without NUL", "\ud800", CONFIG, resume=False)
    refuse("a path without NUL", "", CONFIG, resume=False)
    refuse("cannot be written as JSON", tmp_path / "none", {"x": float("nan")}, resume=False)
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.png").write_bytes(b"")
    refuse("is not empty .*cat", foreign, CONFIG, resume=False)
    refuse("holds no run to resume", foreign, CONFIG, resume=True)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["cat.png", "file", "photos"]


def test_names_cannot_break_the_line(tmp_path):
    name = "evil\n\x1b[31m"
    (tmp_path / name).mkdir()
    (tmp_path / name / "x\ny").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        open_run_folder(tmp_path / name, CONFIG, resume=False)
    assert str(caught.value).isprintable()


def test_unwritable_folder(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refused)
    refuse("run: Permission denied", tmp_path / "run", CONFIG, resume=False)
    monkeypatch.undo()
    out = open_run_folder(tmp_path / "run", CONFIG, resume=False)
    monkeypatch.setattr(os, "open", refused)
    refuse("Permission denied", out, CONFIG, resume=True)


def test_start_killed_before_the_config_can_start_again(tmp_path):
    (tmp_path / ".lock").write_bytes(b"")
    (tmp_path / ".icrl-tmp-0123456789abcdef").write_bytes(b"{")
    open_run_folder(tmp_path, CONFIG, resume=False)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".lock", "config.json"]


def test_resume_with_other_draws_names_the_switch(tmp_path):
    out, switch = tmp_path / "run", "jax_threefry_partitionable"
    other, given = {**FLAGS, switch: False}, rf"other switches of jax: {switch} \(stored true, given false\)"
    open_run_folder(out, CONFIG, resume=False, flags=FLAGS)
    refuse(given, out, CONFIG, resume=True, flags=other)
    open_run_folder(out, CONFIG, resume=True, flags=FLAGS)
    assert read_json(out / "config.json")["flags"] == FLAGS


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda config: config.pop("settings"), DamagedError),
        (lambda config: config.update(settings=[]), DamagedError),
        (lambda config: config.update(extra=1), DamagedError),
        (lambda config: config.update(flags=[]), DamagedError),
        (lambda config: config.update(versions=3), DamagedError),
        (lambda config: config.update(schema=2), InputError),
    ],
)
@pytest.mark.parametrize("resealed", [True, False])
def test_damaged_config(tmp_path, change, error, resealed):
    out = open_run_folder(tmp_path / "run", CONFIG, resume=False)
    config = read_json(out / "config.json")
    change(config)
    publish_json(out / "config.json", config)
    if resealed:
        reseal_document(out / "config.json", lambda config: config)
    with pytest.raises(error) as caught:
        open_run_folder(out, CONFIG, resume=True)
    assert "config.json" in one_line(caught.value)


def test_values_of_another_kind_in_a_config_are_damage_in_one_line(tmp_path):
    out = open_run_folder(tmp_path / "run", CONFIG, resume=False, device="cpu:1")
    good = json.loads((out / "config.json").read_text())
    for at in list(places(good)):
        for value in OTHER_KINDS:
            copy = json.loads(json.dumps(good))
            put(copy, at, value)
            publish_json(out / "config.json", copy)
            reseal_document(out / "config.json", lambda config: config)
            with contextlib.suppress(IcrlError):  # settings and versions may be any
                open_run_folder(out, CONFIG, resume=True, device="cpu:1")


def test_a_config_without_a_digest_or_with_a_changed_digit_is_damaged(tmp_path):
    out = open_run_folder(tmp_path / "run", CONFIG, resume=False)
    good = (out / "config.json").read_text()
    config = json.loads(good)
    del config["sha256"]
    for text in (good.replace("64", "65", 1), good.replace("bandit", "candit"), json.dumps(config)):
        (out / "config.json").write_text(text)
        with pytest.raises(DamagedError, match=r"config\.json: sha256: expected") as caught:
            read_config(out)
        one_line(caught.value)
    (out / "config.json").write_text(good)
    assert read_config(out)["settings"] == CONFIG


def test_the_identity_of_a_run_is_that_of_its_config(tmp_path):
    assert identity_of(tmp_path) == {}
    one, two, other = (
        identity_of(open_run_folder(tmp_path / name, {**CONFIG, "lr": lr}, False, device=device))
        for name, lr, device in (("1", 1e-3, "cpu"), ("2", 1e-3, "cpu"), ("3", 2e-3, "cpu"))
    )
    elsewhere = identity_of(open_run_folder(tmp_path / "4", CONFIG, False, device="gpu"))
    assert one == two and other["settings"] != one["settings"] and other["run"] != one["run"]
    assert elsewhere["settings"] == one["settings"] and elsewhere["run"] != one["run"]


if __name__ == "__main__":
    child_hold(Path(sys.argv[1]))
