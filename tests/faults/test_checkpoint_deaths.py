"""Checkpoints: whole after a kill at any moment, and after a full disk.

The test that kills runs in a child (this file as a script): it forks before JAX starts its threads.
"""

import contextlib
import gc
import json
import logging
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint  # noqa: F401 - imported before the fork, so that a killed child costs little
import pytest
from checkpoint_states import files_of, plain_state, same_bits, small_state

from icrl.core.errors import ResourceError
from icrl.storage import checkpoints
from icrl.storage.checkpoints import restore, save, steps
from icrl.storage.publish import verify_folder
from icrl.storage.quiet import Quiet
from icrl.storage.run_folder import RunLock

CHANGES = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir")


class Dead(BaseException):
    """From the k-th call on no call reaches the disk, as if the process had died there."""


@contextlib.contextmanager
def dying_at(k: int, monkeypatch):
    """Calls inside Orbax are one crash point, half-way through: all it does lies in one temporary folder."""
    calls, in_orbax, real_save = 0, False, checkpoints._orbax_save

    def alive() -> None:
        nonlocal calls
        calls += 1
        if calls >= k:
            raise Dead

    def wrap(name, original):
        def wrapped(*args, **kwargs):
            reads = name == "open" and not (len(args) > 1 and args[1] & os.O_CREAT)
            if not reads and not in_orbax:
                alive()
            return original(*args, **kwargs)

        return wrapped

    def half_of_orbax(path, *args):
        nonlocal in_orbax
        in_orbax = True
        real_save(path, *args)
        for file in files_of(path)[::2]:
            data = file.read_bytes()
            if calls + 1 >= k:
                file.write_bytes(data[: len(data) // 2])
        in_orbax = False
        alive()

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_orbax_save", half_of_orbax)
        for name in CHANGES:
            patch.setattr(os, name, wrap(name, getattr(os, name)))
        with contextlib.suppress(Dead):
            yield lambda: calls


def test_death_at_every_call_of_a_save(tmp_path, monkeypatch):
    """Each crash point of the third save: before publication both old steps, after it the new one, never less."""
    source, template = tmp_path / "source", plain_state(0)
    for number in (1, 2):
        save(source, number, plain_state(number))
    outcomes = []
    for k in range(1, 200):
        place = tmp_path / f"at-{k}"
        shutil.copytree(source, place)
        with dying_at(k, monkeypatch) as count:
            save(place, 3, plain_state(3))
        restored, step, _ = restore(place, template)
        assert step in (2, 3) and same_bits(restored, plain_state(step)), k
        for number in steps(place):
            verify_folder(place / f"step-{number:08d}")
        outcomes.append(step)
        if count() < k:
            break
        if step == 2:
            assert steps(place) == [1, 2]
            save(place, 3, plain_state(3))
            assert steps(place) == [2, 3] and len(list(place.iterdir())) == 2
        shutil.rmtree(place)
    assert len(outcomes) > 20 and outcomes == sorted(outcomes), outcomes


def test_every_file_of_a_checkpoint_is_fsynced_before_its_rename(tmp_path, monkeypatch):
    paths, synced, owed, published = {}, set(), set(), []

    def after(name, action):
        original = getattr(os, name)

        def wrapped(*args, **kwargs):
            if name == "rename" and Path(args[1]).name.startswith("step-"):
                inside = {Path(args[0]), *Path(args[0]).rglob("*")}
                assert inside <= synced, f"renamed before fsync: {inside - synced}"
                published.append(args[1])
                owed.add(Path(args[1]).parent)
            result = original(*args, **kwargs)
            action(result, *args)
            return result

        monkeypatch.setattr(os, name, wrapped)

    after("open", lambda descriptor, path, *_, **__: paths.update({descriptor: Path(path)}))
    after("rename", lambda *_: None)
    after("fsync", lambda _, descriptor: (synced.add(paths.get(descriptor)), owed.discard(paths.get(descriptor))))
    save(tmp_path, 1, small_state())
    monkeypatch.undo()
    assert published == [tmp_path / "step-00000001"] and not owed


@pytest.mark.parametrize("limit", [100, 2000, 60_000])
def test_full_disk_keeps_the_last_good_step(tmp_path, limit, capfd, caplog):
    """A real limit on the size of files: it hits Orbax's native writer too, which reports in its own words."""
    big = {"w": jax.random.normal(jax.random.key(0), (256, 256))}
    save(tmp_path, 1, big)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(ResourceError, match=r"step-00000002: .*needs at least \d+ bytes, \d+ are free") as caught:
            save(tmp_path, 2, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value) and caught.value.exit_code == 5
    assert capfd.readouterr() == ("", "") and caplog.text == "", "more than the one line is said"
    assert [each.name for each in tmp_path.iterdir()] == ["step-00000001"]
    save(tmp_path, 2, big)
    assert same_bits(restore(tmp_path, big)[0], big)


def child_full_disk(root: Path, limit: int) -> dict:
    """Save many arrays under a limit on the size of files; what is said must be what is raised."""
    state = {f"w{n}": jnp.full((64, 64), n) + jax.random.normal(jax.random.key(n), (64, 64)) for n in range(40)}
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    said = []
    for _ in range(2):
        try:
            save(root, 1, state)
        except ResourceError as error:
            said.append(str(error))
        gc.collect()
        time.sleep(0.3)  # for threads that are late
    return {"said": said}


def test_threads_of_a_save_that_met_a_full_disk_say_nothing(tmp_path):
    command = [sys.executable, __file__, "full_disk", str(tmp_path), "4096"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    said = json.loads(done.stdout.splitlines()[-1])["said"]
    assert len(said) == 2 and all("File too large: needs at least" in each for each in said)


def test_only_late_threads_of_a_failed_save_stay_unheard(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    closed, other = (types.SimpleNamespace(exc_value=RuntimeError(text)) for text in ("Event loop is closed", "other"))

    def late(found, name):
        thread = threading.Thread(target=lambda: sys.unraisablehook(found), name=name)
        thread.start()
        thread.join()

    with Quiet():
        late(closed, "Dummy-1")
        late(closed, "mine")
        late(other, "Dummy-1")
    assert heard == [closed, other]
    late(closed, "Dummy-1")
    assert heard == [closed, other, closed]  # the hook is what it was
    for _ in range(2):
        with Quiet() as quiet:
            quiet.stay()
    late(closed, "Dummy-1")
    assert len(heard) == 3
    late(other, "Dummy-1")
    assert len(heard) == 4


def test_what_orbax_leaves_behind_stays_unheard_and_nothing_else(caplog, recwarn):
    with Quiet() as quiet:
        quiet.stay()
    for who in ("async_serialize_from_host", "mine"):
        logging.getLogger("asyncio").error("Task exception was never retrieved, coro=<%s() done>", who)
        warnings.warn(f"coroutine '{who}.<locals>.write_fragment' was never awaited", RuntimeWarning, stacklevel=1)
    assert [record.args for record in caplog.records] == [("mine",)]
    assert [str(each.message)[:15] for each in recwarn] == ["coroutine 'mine"]


def writer(root: Path, acknowledge: int) -> None:
    with RunLock(root, "writer"):
        done = steps(root / "checkpoints")
        first = restore(root / "checkpoints", plain_state(0))[1] + 1 if done else 0
        for number in range(first, 100_000):
            save(root / "checkpoints", number, plain_state(number))
            os.write(acknowledge, f"{number}\n".encode())


def child_sigkill(root: Path, kills: int) -> dict:
    chance, acknowledged = random.Random(1), -1
    for _ in range(kills):
        reader, acknowledge = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            writer(root, acknowledge)
            os._exit(1)
        os.close(acknowledge)
        select.select([reader], [], [], 60)
        time.sleep(chance.random() * 0.25)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with open(reader, "rb") as pipe:
            acknowledged = max([acknowledged, *map(int, pipe.read().split())])
        known = steps(root / "checkpoints")
        for number in known:
            verify_folder(root / "checkpoints" / f"step-{number:08d}")
        assert known[-1] >= acknowledged, "an acknowledged step is lost"
        assert len(known) <= 3, "retention left more than a kill can explain"
    return {"last": known[-1], "acknowledged": acknowledged}


@pytest.mark.parametrize("kills", [20, pytest.param(300, marks=pytest.mark.nightly)])
def test_sigkill_loses_nothing_acknowledged(tmp_path, kills):
    command = [sys.executable, __file__, "sigkill", str(tmp_path), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    last = json.loads(done.stdout.splitlines()[-1])["last"]
    restored, step, _ = restore(tmp_path / "checkpoints", plain_state(0))
    assert step == last >= kills - 1 and same_bits(restored, plain_state(last))


if __name__ == "__main__":
    role, root, count = sys.argv[1:]
    print(json.dumps(globals()[f"child_{role}"](Path(root), int(count))))
