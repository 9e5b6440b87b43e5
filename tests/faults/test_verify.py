"""``icrl verify`` knows runs, sets, selections and checkpoints, and names all that is wrong with them."""

import json
import shutil
from pathlib import Path

import pytest

from icrl.cli import main
from icrl.storage.documents import read_document, write_document

RUN = ["run", "ad", "--preset", "smoke", "--train-steps", "4", "--save-every", "2", "--log-every", "1"]
RUN += ["--warmup-steps", "1", "--competitors", "uniform"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify") / "run"
    assert main([*RUN, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(original, tmp_path):
    shutil.copytree(original, tmp_path / "run")
    return tmp_path / "run"


def verify(path: Path, capsys) -> tuple[int, str]:
    """Exit code, and the one line that is said."""
    capsys.readouterr()
    code = main(["verify", str(path)])
    out, err = capsys.readouterr()
    said = err if code else out
    assert said.count("\n") == 1 and (out == "" or err == ""), said
    return code, said


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text


def one(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_whole_things_are_intact(run, capsys):
    code, said = verify(run, capsys)
    assert code == 0
    for part in (
        "a run of ad",
        "4 rows of metrics",
        "seed-0: steps 2, 4",
        "sets of data: 1",
        "selections: 1",
        "results.json",
        "views: 10",
    ):
        assert part in said, said
    things = (
        ("data/source-*", "6 tasks, digest"),
        ("data/selection-*.json", "a selection of 24 of 24 histories"),
        ("checkpoints", "seed-0: steps 2, 4"),
        ("checkpoints/seed-0", "intact: steps 2, 4"),
    )
    for pattern, words in things:
        code, said = verify(one(run, pattern), capsys)
        assert code == 0 and words in said, said


HARMED = [
    ("config.json", "config.json"),
    ("metrics.jsonl", "metrics.jsonl: line"),
    ("results.json", "results.json"),
    ("report.html", "report.html: sha256"),
    ("figures/*.png", "png: sha256"),
    ("tensorboard/report/events*", "sha256"),
    ("views.json", "views.json"),
    ("checkpoints/seed-0/step-00000002/manifest.json", "step-00000002/manifest.json"),
    ("checkpoints/seed-0/step-00000004/state/manifest.ocdbt", "manifest.ocdbt: sha256"),
    ("data/source-*/card.json", "card.json"),
    ("data/source-*/tasks-*/reward.npy", "reward.npy: sha256"),
    ("data/selection-*.json", "selection-"),
]


@pytest.mark.parametrize(("pattern", "words"), HARMED, ids=lambda text: text)
def test_a_flipped_bit_anywhere_is_damage(run, capsys, pattern, words):
    flip(one(run, pattern))
    code, said = verify(run, capsys)
    assert code == 3 and said.count(words) == 1, said


def cut_metrics(run):
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join(lines[:2]))


def lose_metrics(run):
    (run / "metrics.jsonl").unlink()


def exchange_models(run):
    shutil.copytree(run / "checkpoints" / "seed-0", run / "checkpoints" / "seed-1")


def other_settings(run):
    config = read_document(run / "config.json")
    config["settings"]["seed"] = 7
    write_document(run / "config.json", config)


def foreign_selection(run):
    path = one(run, "data/selection-*.json")
    body = read_document(path)
    body["provenance"]["dataset"] = "0" * 64
    write_document(path, body)


def lose_the_selection(run):
    one(run, "data/selection-*.json").unlink()


def put_a_link(run):
    (run / "figures" / "mine.png").symlink_to("/etc/hostname")


def link_a_step(run):
    step = run / "checkpoints" / "seed-0" / "step-00000002"
    step.rename(run.parent / "aside")
    step.symlink_to(run.parent / "aside")


def lose_results(run):
    (run / "results.json").unlink()


def lose_the_report(run):
    (run / "report.html").unlink()


def lose_a_picture(run):
    one(run, "figures/*.png").unlink()


def lose_the_events(run):
    one(run, "tensorboard/train*/events*").unlink()


def lose_the_list_of_views(run):
    (run / "views.json").unlink()


def views_of_other_results(run):
    results = read_document(run / "results.json")
    write_document(run / "results.json", {**results, "seed": 7})


def results_of_another_run(run):
    results = read_document(run / "results.json")
    write_document(run / "results.json", {**results, "run": "0123456789abcdef"})


def views_outside(run):
    views = read_document(run / "views.json")
    write_document(run / "views.json", {**views, "files": {"../secret": "0" * 64}})


def lose_checkpoints(run):
    shutil.rmtree(run / "checkpoints")


def lose_every_step(run):
    for step in (run / "checkpoints" / "seed-0").iterdir():
        shutil.rmtree(step)


def lose_the_newest_step(run):
    shutil.rmtree(run / "checkpoints" / "seed-0" / "step-00000004")


def half_a_set(run):
    card = read_document(one(run, "data/source-*/card.json"))
    (data,) = run.glob("data/source-*")
    shutil.rmtree(one(data, "tasks-*"))
    assert len(card["task_ids"]) == 6


def two_things(run):
    lose_results(run)
    flip(one(run, "data/source-*/tasks-*/reward.npy"))


@pytest.mark.parametrize(
    ("harm", "code", "words"),
    [
        (cut_metrics, 3, "metrics.jsonl: expected 4 rows of seed 0 up to step 4"),
        (lose_metrics, 3, "metrics.jsonl: expected 4 rows of seed 0 up to step 4"),
        (exchange_models, 3, "seed-1/step-00000002: is a checkpoint of another run: seed expected 1, found 0"),
        (other_settings, 3, "is a checkpoint of another run: run expected"),
        (foreign_selection, 3, "is a selection from another data set, 0000"),
        (put_a_link, 3, "figures/mine.png: found a link"),
        (link_a_step, 3, "step-00000002: expected a folder, found a link"),
        (lose_results, 6, "missing: results.json; the run has not come to its end"),
        (lose_the_report, 6, "missing: report.html; `icrl report` draws it again"),
        (lose_a_picture, 6, "missing: figures/"),
        (lose_the_events, 6, "missing: tensorboard/train "),
        (lose_the_list_of_views, 6, "missing: views.json"),
        (views_of_other_results, 3, "the views are not those of results.json; `icrl report` draws it again"),
        (results_of_another_run, 3, "results.json: run: expected "),
        (views_outside, 3, "expected names inside the folder"),
        (lose_checkpoints, 6, "missing: checkpoints/seed-0, of which metrics.jsonl tells"),
        (lose_every_step, 6, "seed-0: missing: a checkpoint"),
        (lose_the_newest_step, 6, "seed-0: missing: the checkpoint of step 4"),
        (lose_the_selection, 6, "data: missing: 1 of 1 selections"),
        (half_a_set, 6, "incomplete: 0 of 6 tasks"),
        (two_things, 3, "reward.npy: sha256"),
        (two_things, 3, "missing: results.json"),
    ],
)
def test_what_is_missing_or_foreign_is_named(run, capsys, harm, code, words):
    harm(run)
    found, said = verify(run, capsys)
    assert (found, words in said) == (code, True), said


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (cut_metrics, "metrics.jsonl: expected 4 rows of seed 0 up to step 4"),
        (lose_metrics, "metrics.jsonl: expected 4 rows of seed 0 up to step 4"),
        (results_of_another_run, "results.json: run: expected"),
    ],
)
def test_a_report_is_not_drawn_from_half_a_record_or_of_another_run(run, capsys, harm, words):
    harm(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert main(["report", str(run)]) == 3
    assert words in one_line(capsys.readouterr().err)
    assert {path: path.read_bytes() for path in before} == before


def test_a_report_draws_again_what_was_harmed(run, capsys):
    lose_a_picture(run)
    flip(run / "report.html")
    flip(one(run, "tensorboard/report/events*"))
    assert verify(run, capsys)[0] == 3
    assert main(["report", str(run)]) == 0
    assert verify(run, capsys)[0] == 0


def test_a_kill_while_views_are_drawn_leaves_no_list_of_them(run, capsys, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("icrl.recipes.run.write_tensorboard", killed)
    assert main(["report", str(run)]) == 130
    code, said = verify(run, capsys)
    assert code == 6 and "missing: views.json" in said


def test_what_cannot_be_checked_is_bad_input(tmp_path, capsys):
    (tmp_path / "text").write_text("{}")
    for name, code in (("none", 2), ("", 2), ("text", 3), ("x" * 300, 2)):
        assert verify(tmp_path / name, capsys)[0] == code
    assert json.loads((tmp_path / "text").read_text()) == {}
