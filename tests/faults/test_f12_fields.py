"""F12: every field of every document of a run holds values of five other kinds; whatever reads it ends in one line.

The digests are made right again, as somebody would who means harm: what is behind them must still be looked at.
"""

import json
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from resealing import OTHER_KINDS, places, put, remove, reseal_document, reseal_folder
from small_runs import RUN, command, played
from trials import trials, verdict

from icrl.cli import main
from icrl.core.errors import IcrlError
from icrl.recipes.ledger import Ledger

MUTATIONS = trials(5)  # of each field
GONE = object()


def shard(run: Path) -> Path:
    return sorted(run.glob("data/source-*/tasks-*"))[0]


def step(run: Path) -> Path:
    return sorted(run.glob("checkpoints/*/step-*"))[-1]


def in_document(pattern: str):
    """Where a document that holds its own digest is, and how another is put in its place."""

    def read(run):
        document = json.loads(next(run.glob(pattern)).read_text())
        return {name: value for name, value in document.items() if name != "sha256"}

    return read, lambda run, changed: reseal_document(next(run.glob(pattern)), lambda _: changed)


def in_manifest(place: Callable[[Path], Path]):
    def read(run):
        return json.loads((place(run) / "manifest.json").read_text())["meta"]

    return read, lambda run, changed: reseal_folder(place(run), lambda found: found.update(meta=changed))


def read_row(run):
    row = json.loads((run / "metrics.jsonl").read_bytes().splitlines()[-1])
    return {name: value for name, value in row.items() if name != "crc"}


def put_row(run, changed):
    """As the last row, with the checksum that it should have there."""
    *before, _ = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    text = json.dumps(changed, separators=(",", ":")).encode()
    crc = zlib.crc32(text, int(before[-1][-11:-3], 16))
    (run / "metrics.jsonl").write_bytes(b"".join([*before, text[:-1] + f',"crc":"{crc:08x}"}}\n'.encode()]))


def ledger(run):
    """An entry of an evaluation that was killed."""
    return next((run / "evaluation").iterdir())


def of_ledger(run):
    return Ledger(run / "evaluation").once("uniform", lambda: {"regret": [0.0]})


def commands(*words: str):
    """Commands on a run; one of them at random is tried."""
    return [lambda run, word=word: command(word, run) for word in words]


def resume(run):
    return command(*RUN, "--out", run, "--resume")


DATA = [*commands("verify"), lambda run: command("inspect", next(run.glob("data/source-*")))]
DOCUMENTS = {
    "config": (*in_document("config.json"), [*commands("verify", "report", "show"), played, resume]),
    "results": (*in_document("results.json"), [*commands("verify", "report"), resume]),
    "views": (*in_document("views.json"), commands("verify", "report")),
    "card": (*in_document("data/source-*/card.json"), DATA),
    "selection": (*in_document("data/selection-*.json"), commands("verify")),
    "shard": (*in_manifest(shard), DATA),
    "checkpoint": (*in_manifest(step), [*commands("verify", "report"), played, resume]),
    "row": (read_row, put_row, [*commands("verify", "report"), resume]),
    "ledger": (*in_manifest(ledger), [of_ledger]),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("f12") / "run"
    assert main([*RUN, "--out", str(folder)]) == 0
    of_ledger(folder)
    return folder


def mutants(document, chance):
    """(place, value, mutant), five of each field."""
    for at in list(places(document)):
        for value in chance.sample((*OTHER_KINDS, GONE), min(MUTATIONS, len(OTHER_KINDS) + 1)):
            copy = json.loads(json.dumps(document))
            remove(copy, at) if value is GONE else put(copy, at, value)
            yield at, "gone" if value is GONE else value, copy


def complaint(action, run) -> str | None:
    """What is wrong with how ``action`` ends."""
    try:
        found = action(run)
    except IcrlError as error:
        found = (error.exit_code, f"icrl: {error}\n")
    except Exception as error:
        return repr(error)
    if not isinstance(found, tuple) or found[0] == 0:
        return None
    *before, last = found[1].splitlines()
    alone = last.startswith("icrl: ") and not any(line.startswith("icrl: ") for line in before)
    return None if alone and last.isprintable() and found[0] in (2, 3, 6) else str(found)


@pytest.mark.nightly
@pytest.mark.parametrize("name", DOCUMENTS)
def test_f12_every_field_of_every_document_is_looked_at(run, tmp_path, monkeypatch, name):
    for module in ("report", "tensorboard"):
        monkeypatch.setattr(f"icrl.reports.{module}.draw_figures", lambda results: {})
    read, write, actions = DOCUMENTS[name]
    chance, done, faults = random.Random(name), 0, []
    for number, (at, value, mutant) in enumerate(mutants(read(run), chance)):
        copy = tmp_path / "copy"
        shutil.copytree(run, copy)
        write(copy, mutant)
        for action in {actions[0], actions[number % len(actions)]}:
            fault = complaint(action, copy)
            faults += [(at, value, fault)] if fault else []
            done += 1
        shutil.rmtree(copy)
        if number % 500 == 499:
            print(f"F12 {name}: {len(faults)} faults in {done}", flush=True)
    verdict(f"F12 {name}", done, faults)
