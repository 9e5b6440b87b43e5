"""A real TensorBoard beside a training, and its page in a browser, by night."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest

from icrl.cli import main
from icrl.reports.tensorboard import LiveRun, ModelRun, write_tensorboard

ROWS = [{"seed": 0, "step": step, "loss": 1.0 / step} for step in range(1, 9)]
MODEL = ModelRun("DPT", 0, {"width": 32})
VISIBLE = 10.0  # seconds until a row is seen, with TensorBoard's own interval of 5
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def board(tmp_path):
    """The address of a TensorBoard that shows ``tmp_path / "board"``."""
    pytest.importorskip("tensorboard_data_server", reason="without it TensorBoard does not notice replaced files")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    place = tmp_path / "board"
    place.mkdir()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(place), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        address = f"http://localhost:{port}"
        until(60, lambda: asked(f"{address}/data/environment") is not None)
        yield address, place
        server.terminate()


def asked(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None


def steps(address):
    query = urllib.parse.urlencode({"run": MODEL.name, "tag": "training/loss"})
    return [int(row[1]) for row in asked(f"{address}/data/plugin/scalars/scalars?{query}") or []]


def until(seconds, holds):
    """How long it took until ``holds()``."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        time.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.nightly
def test_a_row_is_seen_soon_and_each_step_once(board):
    address, place = board
    live = LiveRun(place, MODEL)
    live.begins([])
    for row in ROWS[:4]:
        live.logged(row)
        print(f"row {row['step']} seen after {until(VISIBLE, lambda: len(steps(address)) == row['step']):.1f} s")  # noqa: B023
    again = LiveRun(place, MODEL)  # a run that goes on behind a checkpoint
    again.begins(ROWS[:2])
    for row in ROWS[2:6]:
        again.logged(row)
    until(2 * VISIBLE, lambda: steps(address) == [1, 2, 3, 4, 5, 6])
    write_tensorboard(place, ROWS, None, [MODEL])
    until(2 * VISIBLE, lambda: steps(address) == [row["step"] for row in ROWS])


@pytest.mark.nightly
def test_the_page_opens_in_a_browser_with_all_runs_in_colours(board, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium here")
    address, place = board
    few = ["--train-seeds", "2", "--competitors", "ucb1,uniform"]
    assert main(["run", "dpt-bandit", "--preset", "smoke", "--out", str(tmp_path / "run"), *few]) == 0
    shutil.copytree(tmp_path / "run" / "tensorboard", place, dirs_exist_ok=True)
    names = {path.name for path in place.iterdir()}
    assert {"train DPT seed 0", "train DPT seed 1", "train DPT all seeds", "eval DPT", "eval ucb1", "report"} <= names
    until(30, lambda: set(asked(f"{address}/data/runs") or []) == names)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1500,3000", "--virtual-time-budget=20000"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", f"{address}/#timeseries"]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert all(name in page for name in names)
    colours = set(re.findall(r'style="background: (rgb\([^)]*\))', page))
    assert len(colours) >= 3, colours  # TensorBoard has seven and begins again
