"""Compiled programs are kept for the user, in a folder that can be named, switched off, full or not writable."""

import os
import subprocess
import sys

from icrl.core.compilation_cache import FOLDER, SWITCH, cache_folder, drop_oldest

PROGRAM = """
from icrl.cli import main
assert main(["run", "--help"]) == 0  # of a command whose programs are kept
import jax, jax.numpy as jnp
print(sum(map(float, jax.jit(lambda x: jnp.linalg.inv(x @ x.T + 1))(jnp.eye(7))[0])))
"""


def told(tmp_path, **variables):
    """What the program prints, with nothing else in the surroundings that names a cache."""
    kept = {name: value for name, value in os.environ.items() if name not in (FOLDER, SWITCH)}
    variables = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **variables}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=kept | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    return done.stdout.splitlines()[-1]


def programs(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*-cache")}


def test_what_is_compiled_once_is_read_from_then_on(tmp_path):
    plain = told(tmp_path, **{SWITCH: "off", "XDG_CACHE_HOME": str(tmp_path / "none")})
    assert not (tmp_path / "none").exists()
    first = told(tmp_path, XDG_CACHE_HOME=str(tmp_path / "xdg"))
    kept = programs(tmp_path / "xdg")
    assert kept
    assert told(tmp_path, XDG_CACHE_HOME=str(tmp_path / "xdg")) == first == plain
    assert programs(tmp_path / "xdg") == kept  # nothing was compiled again


def test_a_cache_of_the_user_goes_before(tmp_path):
    told(tmp_path, **{FOLDER: str(tmp_path / "mine"), "XDG_CACHE_HOME": str(tmp_path / "xdg")})
    assert programs(tmp_path / "mine") and not (tmp_path / "xdg").exists()


def test_a_folder_that_cannot_be_made_or_written_changes_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    assert told(tmp_path, **{SWITCH: str(tmp_path / "file")}) == told(tmp_path, **{SWITCH: "off"})


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv(SWITCH, str(tmp_path))
    assert cache_folder().parent == tmp_path
    monkeypatch.setenv(SWITCH, "OFF")
    assert cache_folder() is None


def test_the_oldest_programs_are_dropped(tmp_path):
    for age in range(10):
        path = tmp_path / f"{age}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "of-somebody-else").write_bytes(bytes(5000))
    drop_oldest(tmp_path, 1000)
    assert len(programs(tmp_path)) == 10
    drop_oldest(tmp_path, 999)
    assert sorted(programs(tmp_path)) == [f"{age}-cache" for age in range(4)]
    assert (tmp_path / "of-somebody-else").exists()
