"""Stored data whose digests are right but whose values are of another kind, or whose files are not what is declared."""

import io
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from published import one_line
from resealing import OTHER_KINDS, digest_of, places, put, remove, reseal_document, reseal_folder

import icrl
from icrl.cli import main
from icrl.core.errors import DamagedError, IcrlError, InputError
from icrl.core.types import History
from icrl.datasets.histories import StoredHistories
from icrl.datasets.store import StoredRecords, store_records
from icrl.datasets.verify import verify
from icrl.filters._selection import read_selection
from icrl.storage.metrics_log import read_jsonl
from icrl.storage.run_folder import read_config


def histories(ids: np.ndarray) -> dict[str, np.ndarray]:
    """Two histories of twelve steps in each task, episodes of four."""
    rng = np.random.default_rng(int(ids[0]))
    ends = np.broadcast_to(np.arange(12) % 4 == 3, (len(ids), 2, 12))
    obs = rng.random((len(ids), 2, 12, 3), np.float32)
    action, reward = rng.integers(0, 5, (len(ids), 2, 12), np.int32), rng.random((len(ids), 2, 12), np.float32)
    return dict(zip(History._fields, (obs, action, reward, obs + 1, np.zeros_like(ends), ends), strict=True))


CARD = {"num_steps": 12, "episode_steps": 4, "task_ids": [0, 1, 2, 3], "optimal_return": [1.0, 2.0, 3.0, 4.0]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set") / "data"
    store_records(folder, histories, 4, {**CARD, "env": {"id": "X"}}, 2)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "data")
    return tmp_path / "data"


def shard(folder: Path) -> Path:
    return sorted(folder.glob("tasks-*"))[0]


def use(folder: Path) -> None:
    """All that is done with a set of histories."""
    stored = StoredHistories(folder)
    stored.fetch(np.arange(4))
    stored.table()


def test_the_set_is_one(folder):
    use(folder)


# --- Kinds of values ---


def mutations(document: dict, harm):
    """Each value of ``document`` replaced by each other kind, and left out; ``harm`` puts it on disk."""
    for at in places(document):
        for value in (*OTHER_KINDS, "gone"):
            copy = json.loads(json.dumps(document))
            remove(copy, at) if value == "gone" else put(copy, at, value)
            harm(copy)
            yield at, value


@pytest.mark.parametrize("name", ["card", "meta"])
def test_values_of_another_kind_are_damage_in_one_line(folder, name):
    card, manifest = folder / "card.json", shard(folder) / "manifest.json"
    path = card if name == "card" else manifest
    good = path.read_bytes()
    document = json.loads(good)
    document = (
        {key: value for key, value in document.items() if key != "sha256"} if name == "card" else document["meta"]
    )

    def harm(changed):
        if name == "card":
            card.write_bytes(good)
            reseal_document(card, lambda _: changed)
            identity = digest_of({key: value for key, value in changed.items() if key != "num_tasks"})
            for each in folder.glob("tasks-*"):
                reseal_folder(each, lambda found: found["meta"].update(card=identity))
        else:
            reseal_folder(shard(folder), lambda found: found.update(meta=changed))

    found = 0
    for at, value in mutations(document, harm):
        try:
            use(folder)
        except IcrlError as error:
            assert one_line(error).isprintable(), (at, value)
            found += 1
        except Exception as error:
            raise AssertionError((at, value)) from error
    assert found > 100


# --- Files that are not what is declared ---


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


WHOLE = np.arange(2 * 2 * 12, dtype=np.float32).reshape(2, 2, 12) / 7
FILES = {
    "nothing": b"",
    "half a header": npy(WHOLE)[:20],
    "brackets": header(b"[" * 5000),
    "more brackets": header(b"(" * 60000),
    "an endless number": header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b",)}"),
    "2^70 elements": header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,)}" % 2**70),
    "less than none": header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2, 12)}"),
    "a call": header(b"__import__('os').system('touch canary')"),
    "no dictionary": header(b"3"),
    "a strange dtype": header(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 2, 12)}"),
    "objects": npy(np.array([object()])),
    "a pickle": b"\x80\x04N.",
    "an archive": b"PK\x03\x04" + bytes(100),
    "version 2": b"\x93NUMPY\x02\x00" + npy(WHOLE)[8:],
    "cut": npy(WHOLE)[:-4],
    "longer": npy(WHOLE) + b"\0\0\0\0",
    "columns": npy(np.asfortranarray(WHOLE)),
    "another shape": npy(WHOLE[:, :, :11].copy()),
    "another rank": npy(WHOLE[0].copy()),
    "another dtype": npy(WHOLE.astype(np.float64)),
    "text": npy(WHOLE.astype("U8")),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize("verify", [True, False])
def test_files_that_are_no_arrays_of_the_declared_form_are_damage(folder, data, verify, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (shard(folder) / "reward.npy").write_bytes(data)
    reseal_folder(shard(folder))
    with pytest.raises(DamagedError, match=r"reward\.npy: expected") as caught:
        StoredRecords(folder, verify).fetch(np.arange(4))
    assert one_line(caught.value).isprintable()
    assert not Path("canary").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 10**12]},
        {"shape": [2, 12, 1]},
        {"shape": [2, -12]},
        {"shape": [2**40, 2**40]},
        {"dtype": "float64"},
        {"dtype": "O"},
        {"dtype": "f4,f4"},
        {"dtype": "uint8"},
        {"dtype": "float32 "},
    ],
    ids=str,
)
def test_declared_forms_are_compared_with_the_files(folder, change, capsys):
    for each in folder.glob("tasks-*"):
        reseal_folder(each, lambda manifest: manifest["meta"]["fields"]["reward"].update(change))
    assert main(["verify", str(folder)]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(DamagedError):
        StoredRecords(folder, verify=False).fetch(np.arange(4))


@pytest.mark.parametrize("path", ["", "\0", "\ud800", "x" * 5000], ids=["empty", "NUL", "surrogate", "long"])
@pytest.mark.parametrize(
    "reader",
    [icrl.load_agent, verify, StoredRecords, read_config, read_jsonl, read_selection],
    ids=lambda each: each.__name__,
)
def test_a_path_that_no_system_takes_is_one_line(reader, path):
    with pytest.raises(InputError) as refusal:
        reader(path)
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 1000
