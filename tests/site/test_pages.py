"""What the pages ask a reader to run, runs: all of it by night, the cheap pages by day. See ``tests/pages.py``."""

import itertools
import shutil
from pathlib import Path

import pages
import pytest

import icrl.recipes.run
from icrl.cli import main
from icrl.core.errors import InputError

# By day: of ``icrl run`` only the settings are checked, but for the run that loops on the pages play.
BY_DAY = ("README.md", "docs/start.md", "docs/ideas.md", "docs/howto/gymnasium.md", "docs/howto/report.md")
PLAYED = (["run", "dpt-bandit"], ["run", "dpt-bandit", "--preset", "smoke"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder for finished runs, and their places in it by their words, so that each is made once."""
    return tmp_path_factory.mktemp("made"), {}


@pytest.fixture
def session(made, forgotten, tmp_path, monkeypatch):
    """A folder to read pages in, and what runs the words behind ``icrl`` there; by day training is left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    count = itertools.count()

    def run(words, trains):
        if words[0] != "run" or "--resume" in words or "--part" in words:
            assert main(pages.at_smoke_size(words)) == 0, words
            return
        out, plain = without_out(words)
        if trains or plain in PLAYED:
            shutil.copytree(finished(plain, *made), out, dirs_exist_ok=True)
        else:
            with monkeypatch.context() as patch:
                patch.setattr(icrl.recipes.run, "execute", lambda run: None)
                checked = tmp_path / "checked" / str(next(count))
                assert main([*pages.at_smoke_size(plain), "--out", str(checked)]) == 0, words

    return tmp_path, run


def without_out(words):
    """(output folder, the words without it)."""
    if "--out" not in words:
        return Path("runs") / words[1], words
    place = words.index("--out")
    return Path(words[place + 1]), [*words[:place], *words[place + 2 :]]


def finished(words, store, known):
    """The folder of a finished run."""
    key = tuple(words)
    if key not in known:
        out = store / str(len(known))
        assert main([*pages.at_smoke_size(words), "--out", str(out)]) == 0, words
        known[key] = out
    return known[key]


@pytest.mark.parametrize("name", BY_DAY)
def test_cheap_pages_run_but_for_their_training(name, session):
    folder, run = session
    pages.run_page(pages.ROOT / name, folder, lambda words: run(words, trains=False))


@pytest.mark.nightly
@pytest.mark.parametrize("page", pages.all_pages(), ids=pages.name_of)
def test_pages_run(page, session):
    folder, run = session
    pages.run_page(page, folder, lambda words: run(words, trains=True))


@pytest.mark.parametrize("page", pages.all_pages(), ids=pages.name_of)
def test_every_page_has_a_line_that_runs(page):
    assert pages.blocks(page), "a page that shows nothing to run"


def test_a_command_that_is_wrong_is_seen(session):
    folder, run = session
    page = folder / "page.md"
    page.write_text("```bash\nicrl run dpt --env RiverSwin-v0\n```\n")
    with pytest.raises(InputError, match="RiverSwim-v0"):
        pages.run_page(page, folder, lambda words: run(words, trains=False))
