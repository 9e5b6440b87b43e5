"""Files: whole or absent after a kill at any moment or on a full disk, one writer, one clear line per error.

The tests that kill or fork run in a child (this file as a script), which never imports jax.
"""

import errno
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from crash_points import die_at, fail_at, in_fork, intercepted, run_child
from published import fill, one_line, publish, temporaries

from icrl.core.errors import DamagedError, InputError, ResourceError
from icrl.storage.metrics_log import append_jsonl, read_jsonl, truncate_jsonl
from icrl.storage.publish import (
    discard_folder,
    make_folder,
    publish_file,
    publish_json,
    publishing_folder,
    read_json,
    sweep_temporaries,
    verify_folder,
)
from icrl.storage.run_folder import RunLock, open_run_folder

CONFIG = {"env": "bandit", "model": {"width": 64, "layers": 2}, "lr": 1e-3}


# --- Death at every call that changes the disk ---


def scenario_publish_file(root: Path) -> None:
    publish_file(root / "file", b"new" * 1000)


def scenario_publishing_folder(root: Path) -> None:
    publish(root / "folder", {"n": 2})


def scenario_append_jsonl(root: Path) -> None:
    append_jsonl(root / "metrics.jsonl", [{"step": 3}, {"step": 4}])


def scenario_append_after_torn(root: Path) -> None:
    append_jsonl(root / "torn.jsonl", [{"step": 2}])


def scenario_truncate_jsonl(root: Path) -> None:
    truncate_jsonl(root / "metrics.jsonl", lambda row: row["step"] < 2)


def scenario_discard_folder(root: Path) -> None:
    discard_folder(root / "old")


def scenario_open_run_folder(root: Path) -> None:
    open_run_folder(root / "runs" / "one", CONFIG, resume=False)


SCENARIOS = {name[9:]: value for name, value in list(globals().items()) if name.startswith("scenario_")}


def prepare(root: Path) -> None:
    root.mkdir()
    publish_file(root / "file", b"old" * 10)
    publish(root / "old")
    append_jsonl(root / "metrics.jsonl", [{"step": 1}, {"step": 2}])
    append_jsonl(root / "torn.jsonl", [{"step": 1}])
    with open(root / "torn.jsonl", "ab") as file:
        file.write(b'{"step":2,"cr')


def audit(root: Path) -> None:
    """Whatever happened, every name that is visible holds something whole, old or new."""
    assert (root / "file").read_bytes() in (b"old" * 10, b"new" * 1000)
    for name in ("old", "folder"):
        if (root / name).exists():
            assert verify_folder(root / name) in ({"n": 1}, {"n": 2})
    assert [row["step"] for row in read_jsonl(root / "metrics.jsonl")] in ([1], [1, 2], [1, 2, 3], [1, 2, 3, 4])
    assert [row["step"] for row in read_jsonl(root / "torn.jsonl")] in ([1], [1, 2])
    if (root / "runs" / "one" / "config.json").exists():
        assert read_json(root / "runs" / "one" / "config.json")["settings"] == CONFIG


def resume(root: Path, name: str) -> None:
    """Do again what died, the way a resumed run does: drop rows of steps that are done again, skip what is there."""
    truncate_jsonl(root / "metrics.jsonl", lambda row: row["step"] <= 2)
    truncate_jsonl(root / "torn.jsonl", lambda row: row["step"] <= 1)
    done = {
        "publishing_folder": (root / "folder").exists(),
        "discard_folder": not (root / "old").exists(),
        "open_run_folder": (root / "runs" / "one" / "config.json").exists(),
    }
    if not done.get(name):
        SCENARIOS[name](root)


def child_crash_points(root: Path) -> dict:
    points = {}
    for name, scenario in SCENARIOS.items():
        for k in range(1, 1000):
            place = root / f"{name}-{k}"
            prepare(place)

            def crashing(scenario=scenario, place=place, k=k):
                with intercepted(die_at(k)):
                    scenario(place)

            code = in_fork(crashing)
            audit(place)
            if code == 0:
                break
            assert code == 9, (name, k, code)
            sweep_temporaries(place)
            resume(place, name)
            audit(place)
            assert not temporaries(place) or (name == "open_run_folder" and sweep_temporaries(place / "runs" / "one"))
            shutil.rmtree(place)
        points[name] = k - 1
    return points


# --- SIGKILL at random moments ---


def writer(root: Path, acknowledge: int) -> None:
    with RunLock(root, "writer"):
        sweep_temporaries(root)
        done = [int(each.name[7:]) for each in root.glob("folder-*")]
        last = max(done, default=-1)
        truncate_jsonl(root / "metrics.jsonl", lambda row: row["step"] <= last)
        for n in range(last + 1, 100_000):
            append_jsonl(root / "metrics.jsonl", [{"step": n}])
            publish(root / f"folder-{n}", {"n": n})
            publish_json(root / "last.json", {"n": n, "text": "x" * 5000})
            os.write(acknowledge, f"{n}\n".encode())


def child_sigkill(root: Path, kills: int) -> dict:
    chance, acknowledged, started = random.Random(1), -1, time.time()
    for _ in range(kills):
        reader, acknowledge = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            writer(root, acknowledge)
            os._exit(1)
        os.close(acknowledge)
        select.select([reader], [], [], 10)  # at least one more folder, so that the test goes forward
        time.sleep(chance.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with open(reader, "rb") as pipe:
            said = pipe.read().split()
        acknowledged = max([acknowledged, *map(int, said)])
        found = sorted(verify_folder(each)["n"] for each in root.glob("folder-*"))
        assert found == list(range(len(found))) and len(found) > acknowledged, "an acknowledged folder is lost"
        rows = [row["step"] for row in read_jsonl(root / "metrics.jsonl")]
        assert rows == list(range(len(rows))) and len(rows) > acknowledged, "an acknowledged row is lost or doubled"
        assert read_json(root / "last.json")["n"] >= acknowledged
    return {"published": len(found), "acknowledged": acknowledged + 1, "seconds": time.time() - started}


def test_death_at_every_call_leaves_old_or_new(tmp_path):
    points = run_child(__file__, "crash_points", tmp_path)
    assert points.keys() == SCENARIOS.keys()
    assert all(count >= 3 for count in points.values()), points
    assert points["publishing_folder"] >= 12 and sum(points.values()) >= 50, points


@pytest.mark.parametrize("kills", [20, pytest.param(300, marks=pytest.mark.nightly)])
def test_sigkill_loses_nothing_acknowledged(tmp_path, kills):
    assert run_child(__file__, "sigkill", tmp_path, kills)["published"] >= kills


# --- The order of the durability calls ---


class Automaton:
    """Refuses a rename of anything not fsynced since it was last changed, and an end without the parent's fsync."""

    def __init__(self) -> None:
        self.paths: dict[int, Path] = {}
        self.synced: set[Path] = set()
        self.owed: set[Path] = set()
        self.renames = 0

    def install(self, monkeypatch) -> None:
        for name in ("open", "write", "fsync", "replace", "rename", "mkdir"):
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, original):
        def wrapped(*args, **kwargs):
            if name in ("replace", "rename"):
                self.check(Path(args[0]))
            result = original(*args, **kwargs)
            getattr(self, f"after_{name}")(result, *args)
            return result

        return wrapped

    def after_open(self, descriptor, path, flags=0, *_):
        self.paths[descriptor] = Path(path)
        if flags & os.O_CREAT:
            self.synced -= {Path(path), Path(path).parent}

    def after_write(self, _, descriptor, *__):
        self.synced.discard(self.paths.get(descriptor))

    def after_fsync(self, _, descriptor):
        self.synced.add(self.paths[descriptor])
        self.owed.discard(self.paths[descriptor])

    def after_mkdir(self, _, path, *__):
        self.synced -= {Path(path), Path(path).parent}

    def after_rename(self, _, source, target):
        self.renames += 1
        self.owed.add(Path(target).parent)

    after_replace = after_rename

    def check(self, source: Path) -> None:
        inside = [source, *source.rglob("*")] if source.is_dir() else [source]
        missing = [path for path in inside if path not in self.synced]
        assert not missing, f"renamed before fsync: {missing}"

    def finish(self, renames: int) -> None:
        assert self.renames == renames and not self.owed, f"parent not fsynced: {self.owed}"


@pytest.mark.parametrize(
    "action",
    [
        lambda root: publish_file(root / "file", b"x"),
        lambda root: publish_json(root / "file.json", {"x": 1}),
        lambda root: publish(root / "folder"),
        lambda root: truncate_jsonl(root / "metrics.jsonl", lambda row: True),
    ],
    ids=["file", "json", "folder", "truncate"],
)
def test_fsync_before_rename_and_parent_after(tmp_path, monkeypatch, action):
    append_jsonl(tmp_path / "metrics.jsonl", [{"step": 1}])
    automaton = Automaton()
    automaton.install(monkeypatch)
    action(tmp_path)
    monkeypatch.undo()
    automaton.finish(renames=1)


def test_appended_rows_and_new_folders_are_fsynced(tmp_path, monkeypatch):
    automaton = Automaton()
    automaton.install(monkeypatch)
    append_jsonl(tmp_path / "metrics.jsonl", [{"step": 1}])
    make_folder(tmp_path / "a" / "b")
    monkeypatch.undo()
    wanted = {tmp_path / "metrics.jsonl", tmp_path, tmp_path / "a"}
    assert wanted <= automaton.synced


# --- Publishing: refusals, failures, full disks ---


def test_folder_is_never_overwritten(tmp_path):
    publish(tmp_path / "folder", {"n": 1})
    with pytest.raises(InputError, match="already exists"):
        publish(tmp_path / "folder", {"n": 2})
    assert verify_folder(tmp_path / "folder") == {"n": 1}
    with pytest.raises(InputError, match="already exists"), publishing_folder(tmp_path / "late", {}):
        (tmp_path / "late").mkdir()  # somebody else was faster
    assert not temporaries(tmp_path)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, PermissionError])
def test_failed_block_leaves_nothing(tmp_path, error):
    with pytest.raises(error), publishing_folder(tmp_path / "folder", {}) as temporary:
        fill(temporary)
        raise error
    assert list(tmp_path.iterdir()) == []


def test_links_are_not_published(tmp_path):
    with pytest.raises(DamagedError, match="link"), publishing_folder(tmp_path / "folder", {}) as temporary:
        (temporary / "link").symlink_to("/etc/passwd")
    assert list(tmp_path.iterdir()) == []


def test_bad_places_are_input_errors(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none" / "x", tmp_path / "file" / "x", tmp_path, tmp_path / ("n" * 300)):
        with pytest.raises(InputError) as caught:
            publish_file(path, b"data")
        one_line(caught.value)
    for path in (tmp_path / "none" / "x", tmp_path / "file" / "x"):
        with pytest.raises(InputError):
            publish(path)
    with pytest.raises(InputError):
        make_folder(tmp_path / "file")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["publish_file", "publishing_folder", "append_jsonl", "truncate_jsonl"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_at_every_call(tmp_path, name, number):
    for k in range(1, 100):
        place = tmp_path / str(k)
        prepare(place)
        before, past_the_end = fail_at(k, number)
        try:
            with intercepted(before):
                SCENARIOS[name](place)
            assert past_the_end(), "the failure was swallowed"
            break
        except ResourceError as error:
            assert re.search(r"needs at least \d+ bytes, \d+ are free", one_line(error)) and str(place) in str(error)
        audit(place)
        assert not temporaries(place)
        if name == "append_jsonl":
            assert len(read_jsonl(place / "metrics.jsonl")) in (2, 4)
        if not (place / "folder").exists() and name != "append_jsonl":
            SCENARIOS[name](place)  # space is back
    assert k > 3


def test_real_file_size_limit(tmp_path):
    publish_file(tmp_path / "file", b"good")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(ResourceError, match=r"File too large.*needs at least 2097152 bytes"):
            publish_file(tmp_path / "file", b"x" * (2 << 20))
        too_large = pytest.raises(ResourceError, match=r"folder: File too large")
        with too_large, publishing_folder(tmp_path / "folder", {}) as temporary:
            (temporary / "big").write_bytes(b"x" * (2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "file").read_bytes() == b"good" and [each.name for each in tmp_path.iterdir()] == ["file"]


def test_sweep_removes_only_ours(tmp_path):
    ours = [f".icrl-tmp-{n:016x}" for n in range(3)]
    outside = tmp_path / "outside"
    publish(outside)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ours[0]).write_bytes(b"")
    fill_me = folder / ours[1]
    fill_me.mkdir()
    fill(fill_me)
    (folder / ours[2]).symlink_to(outside)
    for name in (".icrl-tmp-mine", "x.icrl-tmp-0000000000000000", ".tmp", "data"):
        (folder / name).write_bytes(b"")
    assert sweep_temporaries(folder) == ours
    assert sorted(each.name for each in folder.iterdir()) == [
        ".icrl-tmp-mine",
        ".tmp",
        "data",
        "x.icrl-tmp-0000000000000000",
    ]
    verify_folder(outside)
    assert sweep_temporaries(tmp_path / "nothing") == []


if __name__ == "__main__":
    role, root, *rest = sys.argv[1:]
    print(json.dumps(globals()[f"child_{role}"](Path(root), *map(int, rest))))
