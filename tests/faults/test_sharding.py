"""Parameters cut over devices: their share of the memory is on each, no bit differs, checkpoints fit everywhere."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from sharded_runs import SEEDS, TOLD, saved

from icrl.core.errors import InputError
from icrl.core.registry import experiments
from icrl.core.settings import replaced
from icrl.recipes import preflight
from icrl.recipes.fits import check_fit
from icrl.recipes.run import start
from icrl.storage.metrics_log import read_jsonl
from icrl.training.placement import WHOLE, axis_to_cut
from icrl.training.step import FitSettings

SCRIPT = Path(__file__).with_name("sharded_runs.py")


@pytest.mark.parametrize(
    ("devices", "seeds"),
    [(4, 1), *(pytest.param(*each, marks=pytest.mark.nightly) for each in ((2, 1), (8, 1), (2, SEEDS), (4, SEEDS)))],
)
def test_cutting_parameters_changes_no_bit_and_no_checkpoint(devices, seeds, tmp_path):
    """Each goes on behind a checkpoint of the other, cut on many devices and whole on one."""
    for count in (devices, 1):
        words = [sys.executable, str(SCRIPT), str(count), str(tmp_path), str(seeds)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    whole, rows = saved(tmp_path / "whole"), told(tmp_path / "whole")
    assert len(whole) == 2 * seeds and len(rows) == 2 * seeds
    for name in ("cut", "cut-behind", "whole-behind"):
        assert told(tmp_path / name) == rows
        for place, document in saved(tmp_path / name).items():
            same = {key: document[key] for key in ("step", "leaves", "state_sha256")}
            assert same == {key: whole[place][key] for key in same}


def told(folder: Path) -> list[dict]:
    return [{key: row[key] for key in TOLD} for row in read_jsonl(folder / "metrics.jsonl")]


@pytest.mark.parametrize(
    ("shape", "count", "axis"),
    [
        ((64, 256), 4, 1),  # the longest
        ((64, 64), 4, 0),  # the first of equals
        ((64, 321), 4, 0),  # 4 does not divide the longest
        ((6, 128, 32), 8, 1),
        ((3, 5, 4099), 2, WHOLE),
        ((63, 64), 4, WHOLE),  # 4 032 scalars are small
        ((256, 256), 1, WHOLE),
        ((), 4, WHOLE),
    ],
)
def test_the_longest_axis_that_the_devices_divide_is_cut(shape, count, axis):
    assert axis_to_cut(shape, count) == axis


def test_a_run_goes_on_with_the_other_value_as_it_changes_no_bit(tmp_path):
    begin = partial(start, "dpt-bandit", "smoke", 0, out=tmp_path / "run")
    begin({"shard_parameters": True}, resume=False)
    config = (tmp_path / "run" / "config.json").read_bytes()
    assert not begin({}, resume=True).settings.fit.shard_parameters
    assert (tmp_path / "run" / "config.json").read_bytes() == config
    with pytest.raises(InputError, match=r"other settings: batch_size \(stored 16, given 32\); give"):
        begin({"batch_size": 32}, resume=True)


def test_memory_of_a_device_is_its_share_and_what_is_whole_in_a_step(monkeypatch):
    fit = FitSettings(gradient_groups=4, shard_parameters=True)
    copies = preflight.COPIES + 3
    assert preflight._copies(fit) == copies  # on a CPU, whose devices have one memory
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(preflight, "data_mesh", lambda groups: SimpleNamespace(size=groups))
    assert preflight._copies(fit) == 1 + copies / 4
    assert preflight._copies(replaced(fit, {"shard_parameters": False})) == copies


# --- What is refused ---


def refused(action, line):
    with pytest.raises(InputError) as caught:
        action()
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_one_group_is_shared_by_no_devices():
    refused(
        partial(FitSettings, gradient_groups=1, shard_parameters=True),
        "gradient_groups: got 1, allowed: 2 or more with shard_parameters; the devices that share the groups",
    )


@pytest.mark.parametrize("name", ["dpt-bandit", "tdb", "task-diversity"])
def test_experts_that_meet_the_whole_batch_want_groups(name):
    changes = {"shard_parameters": True, "moe": "token-task", "model": "transformer"}
    recipe = experiments[name].presets["smoke"]
    line = "gradient_groups: got None, allowed: 2 or more with shard_parameters; rows of a group meet in the losses of"
    refused(partial(replaced, recipe, changes), line)
    replaced(recipe, {**changes, "gradient_groups": 2})


def test_a_policy_that_makes_its_own_data_is_on_one_device():
    recipe = replaced(experiments["rl2"].presets["smoke"], {"shard_parameters": True})
    line = "shard_parameters: got True, allowed: false with objective rl2; its policy trains on one device"
    refused(partial(check_fit, recipe), line)
