"""The command line where streams are missing or full, names too long and devices absent: one line, a code, no harm."""

import os
import subprocess
import sys

import pytest

from icrl import load_agent
from icrl.cli import main
from icrl.core import console
from icrl.core.settings import plain_value
from icrl.storage.publish import read_json

LONG = "x" * 300


def icrl(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "icrl", *words], capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "dpt-bandit", "--seed", "9" * 5000), 2),
        (("run", "dpt-bandit", "--width", "-" * 3000 + "1"), 2),
        (("run", "dpt-bandit", "--width", "9" * 5000), 2),
        (("run", "dpt-bandit", "--learning-rate", "1e" + "9" * 5000), 2),
        (("collect", "dpt-bandit", "--out", LONG, "--num-tasks", "9" * 5000), 2),
        (("collect", "dpt-bandit", "--preset", "smoke", "--out", LONG, "--num-tasks", "3"), 2),
        (("run", "dpt-bandit", "--preset", "smoke", "--out", LONG), 2),
        (("run", "--config", LONG), 2),
        *((((verb, LONG)), 2) for verb in ("report", "evaluate", "verify", "inspect", "show")),
        (("export", LONG, "out-v0"), 2),
        (("report", "dpt", "-" * 3000 + "1"), 2),
        (("list", "--json", "-" * 3000 + "=" + LONG), 2),
        (("run", "--config", 20 * LONG), 2),
        (("verify", 20 * LONG), 2),
        (("show", "ad", "--preset=--"), 2),
        (("list", 20 * LONG), 2),
        (("run", 20 * LONG), 2),
        (("export", "x", "y", f"--tasks={20 * LONG}"), 2),
        (("run", "dpt", "--config", "\x00"), 2),
        (("run", "dpt", "--config=\ud800"), 2),
    ],
)
def test_what_is_too_long_is_one_short_line(words, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(list(words)) == code
    error = capsys.readouterr().err
    assert error.startswith("icrl: ") and error.count("\n") == 1
    assert len(error) < 1000
    assert not list(tmp_path.iterdir())


def test_numbers_are_decimal_digits():
    assert [plain_value(text) for text in ("7", "-1", "+2", "1e3", ".5", "2.", "TRUE", "none")] == [
        7, -1, 2, 1000.0, 0.5, 2.0, True, None,
    ]  # fmt: skip
    for text in ("0x10", "1_000", " 7 ", "1e", "1.5.2", "٣", "[1]", "__import__('os')", "1+1"):
        assert plain_value(text) == text


def test_a_full_stdout_ends_a_listing_in_a_line_and_no_run(tmp_path):
    with open("/dev/full", "w") as full:
        for words in (("list", "envs"), ("show", "dpt-bandit")):
            done = subprocess.run(
                [sys.executable, "-m", "icrl", *words], stdout=full, stderr=subprocess.PIPE, text=True
            )
            assert done.returncode == 5
            assert done.stderr == "icrl: No space left on device\n"
        words = ["run", "dpt-bandit", "--preset", "smoke", "--out", str(tmp_path / "run")]
        done = subprocess.run([sys.executable, "-m", "icrl", *words], stdout=full, stderr=full)
    assert done.returncode == 0
    assert read_json(tmp_path / "run" / "results.json")["experiment"] == "dpt-bandit"


def test_closed_streams_and_a_folder_that_is_gone(tmp_path):
    shell = f"{sys.executable} -m icrl"
    for redirection in (">&-", "2>&-", ">&- 2>&-"):
        done = subprocess.run(f"{shell} list envs {redirection}", shell=True, capture_output=True, text=True)
        assert done.returncode == 0 and "Traceback" not in done.stderr
    gone = tmp_path / "gone"
    gone.mkdir()
    package = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = f"cd {gone} && rmdir {gone} && {shell} report nowhere"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env={**os.environ, **package})
    assert done.returncode == 2 and done.stderr.startswith("icrl: ") and done.stderr.count("\n") == 1


def test_a_device_that_is_not_there_is_one_line(tmp_path):
    done = icrl(
        "run", "dpt-bandit", "--preset", "smoke", "--out", str(tmp_path / "run"),
        env={**os.environ, "JAX_PLATFORMS": "cuda"},
    )  # fmt: skip
    assert done.returncode == 5
    assert done.stderr == "icrl: JAX_PLATFORMS: got 'cuda', and jax finds no such device on this machine\n"
    assert not (tmp_path / "run").exists()


def test_resume_starts_what_never_began(tmp_path):
    """A job that is killed while it imports is repeated by a scheduler with the same words."""
    words = ["run", "dpt-bandit", "--preset", "smoke", "--out", str(tmp_path / "run"), "--resume"]
    assert main(words) == 0
    first = read_json(tmp_path / "run" / "results.json")
    assert main(words) == 0
    again = read_json(tmp_path / "run" / "results.json")
    assert again["online"] == first["online"]


def test_a_tilde_is_the_home_folder_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small = ["--preset", "smoke", "--train-steps", "2"]
    assert main(["collect", "dpt-bandit", "--preset", "smoke", "--num-tasks", "32", "--out=~/data"]) == 0
    assert main(["run", "dpt-bandit", *small, "--data=~/data", "--out=~/run"]) == 0
    for verb in ("verify", "report", "show"):
        assert main([verb, "~/run"]) == 0
    load_agent("~/run")
    assert {"data", "run"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "~").exists()
    assert main(["report", "~nobody-of-this-name/run"]) == 2


def test_a_full_stdout_is_given_up_and_a_fault_of_ours_is_not_hidden(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    given_up = []
    monkeypatch.setattr(console, "give_up_stdout", lambda: given_up.append(1))
    with console.stdout_may_fail():
        full()
    assert given_up == [1]
    with pytest.raises(ValueError, match="ours"), console.stdout_may_fail():
        raise ValueError("ours")
    closed = open(os.devnull, "w")  # noqa: SIM115
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with console.stdout_may_fail():
        print("to nobody")
