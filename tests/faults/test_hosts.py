"""Several processes train one run: they end in the bits of one, all stop if one does, and what differs is refused."""

import math
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import AbstractMesh, AxisType
from small_runs import command, free_port, until
from test_f1_kills import of_run

from icrl.core.devices import training_mesh
from icrl.core.errors import InputError
from icrl.core.flags import values_of
from icrl.core.places import Place, place_of
from icrl.core.settings import replaced
from icrl.datasets.verify import verify
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.models._token_policy import Policy
from icrl.recipes.data import RunData
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import start
from icrl.storage.lock import RunLock
from icrl.storage.metrics_log import OF_MACHINE, read_jsonl
from icrl.storage.publish import verify_folder
from icrl.training.gradients import _sums_on_mesh

BRIEF = ["--preset", "smoke", "--log-every", "1", "--warmup-steps", "1", "--width", "8"]
BRIEF += ["--num-layers", "1", "--competitors", "uniform", "--eval-tasks", "4"]
BANDIT = ["run", "dpt-bandit", *BRIEF, "--horizon", "10", "--offline-competitors", "", "--offline-tasks", "4"]
TWELVE = [*BANDIT, "--train-steps", "4", "--save-every", "2", "--batch-size", "12"]
SMALL = [*TWELVE[:-1], "8"]
LONG = [*BANDIT, "--train-steps", "300", "--save-every", "20", "--batch-size", "8"]
AD = ["run", "ad", *BRIEF, "--train-steps", "4", "--save-every", "2", "--batch-size", "8"]


class Started:
    """Commands as processes of one team."""

    def __init__(self, folder: Path, words: list[str], count: int, devices: int = 1):
        where = ["--out", str(folder), "--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(count)]
        base = [sys.executable, "-m", "icrl", *words, *where, "--process"]
        pipes: dict = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        pipes["env"] = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)}
        self.each = [subprocess.Popen([*base, str(number)], **pipes) for number in range(count)]

    def ended(self, seconds: float = 500) -> list[tuple[int, str]]:
        """Exit code of each, and what it said on stderr."""
        found = []
        for each in self.each:
            try:
                said = each.communicate(timeout=seconds)[1]
            except subprocess.TimeoutExpired:
                each.kill()
                said = f"{each.communicate()[1]}\nstill at work"
            found.append((each.returncode, said))
        return found


def trained_alone(words: list[str], folder: Path) -> Path:
    """What one process trains by these words, not evaluated."""
    run = start(words[1], "smoke", 0, values_of(DPTBandit.presets["smoke"], words[4:]), folder, False)
    with RunLock(folder, run.experiment):
        DPTBandit.pretrain(run.settings, run)
    return folder


def trained(folder: Path) -> tuple[list[dict], dict[str, str]]:
    """Rows and the states of checkpoints, without what tells time."""
    rows = read_jsonl(folder / "metrics.jsonl")
    saves = {step.name: verify_folder(step)["state_sha256"] for step in folder.glob("checkpoints/*/step-*")}
    assert rows and saves
    return [{key: value for key, value in row.items() if key not in (*OF_MACHINE, "crc")} for row in rows], saves


def test_two_processes_end_in_the_bits_of_one(tmp_path):
    team = Started(tmp_path / "run", SMALL, 2)
    alone = trained_alone(SMALL, tmp_path / "alone")
    leader, follower = team.ended()
    assert (leader[0], follower) == (0, (0, "")), (leader, follower)
    assert trained(tmp_path / "run") == trained(alone)
    assert verify(tmp_path / "run").startswith("a run of dpt-bandit")


# --- What the words mean ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--process 1", "coordinator: got None, allowed: a value with --process; or --processes auto"),
        ("--process 1 --coordinator a:1", "processes: got None, allowed: a value with --coordinator"),
        ("--processes 2", "coordinator: got None, allowed: a value with --processes"),
        ("--processes 2 --process 0", "coordinator: got None"),
        ("--processes 2 --coordinator a:1", "process: got None"),
        ("--processes 2 --process 2 --coordinator a:1", "process: got '2', allowed: an integer in [0, 1]"),
        ("--processes 0 --process 0 --coordinator a:1", "processes: got '0', allowed: an integer in [1, 4096]"),
        ("--processes 2.0 --process 0 --coordinator a:1", "processes: got '2.0'"),
        ("--processes 2 --process -1 --coordinator a:1", "process: got '-1'"),
        ("--processes 2 --process 0 --coordinator a", "coordinator: got 'a', allowed: HOST:PORT"),
        ("--processes 2 --process 0 --coordinator a:0", "coordinator: got 'a:0'"),
        ("--processes 2 --process 0 --coordinator :7", "coordinator: got ':7'"),
        ("--processes 2 --process 0 --coordinator a\0b:7", "coordinator: got"),
        ("--processes auto --process 1", "process: got '1', allowed: none with --processes auto"),
        ("--processes auto", "processes: got 'auto', allowed: a number"),
        ("--processes 2 --process 0 --coordinator a:1 --part 1/2", "part: got '1/2', allowed: none with --processes"),
    ],
)
def test_words_that_mean_no_place_are_refused(words, said, tmp_path, no_cluster):
    code, line = command(*SMALL, "--out", tmp_path / "run", *words.split(" "))
    assert code == 2 and said in line and line.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture
def no_cluster(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JAX_COORDINATOR", "JOB_")):
            monkeypatch.delenv(name)


def test_one_process_is_alone():
    assert place_of(None, None, None) is None
    assert place_of("a:1", "0", "1") is None


def test_a_place_by_numbers_and_addresses():
    assert place_of("node-1.cluster:70", "3", "4") == Place(3, 4, "node-1.cluster", 70)
    assert place_of("[::1]:70", "0", "2") == Place(0, 2, "::1", 70)
    assert Place(0, 2, "::1", 70).address == "[::1]:70"


def test_slurm_says_which_process_this_is(no_cluster, monkeypatch):
    told = {"JOB_ID": "4097", "STEP_NODELIST": "node[003-004]", "NTASKS": "4", "PROCID": "2", "LOCALID": "1"}
    for name, value in told.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert place_of(None, None, "auto") == Place(2, 4, "node003", 65536 - 4096 + 1, (1,))
    monkeypatch.setenv("SLURM_PROCID", "two")
    with pytest.raises(InputError, match="the cluster does not say which"):
        place_of(None, None, "auto")


def test_open_mpi_says_which_process_this_is(no_cluster, monkeypatch):
    told = {"MCA_orte_hnp_uri": "4096.0;tcp://10.96.0.1,10.148.0.1:34911", "COMM_WORLD_SIZE": "2"}
    for name, value in {**told, "COMM_WORLD_RANK": "1", "COMM_WORLD_LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(f"OMPI_{name}", value)
    assert place_of(None, None, "auto") == Place(1, 2, "10.96.0.1", 65536 - 4096 + 1, (0,))


# --- What several processes do not share ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("leaderboard", "processes: got 2, allowed: none: leaderboard is not a recipe, whose models train"),
        ("tdb", "processes: got 2, allowed: none: tdb is not a recipe"),
        ("rl2", "allowed: 1 process, none with --processes, with objective rl2; its policy makes its own data"),
        ("dpt --moe token-task", "allowed: 1 process, none with --processes, with moe token-task; the experts'"),
        (
            "dpt --shard-parameters true",
            "shard_parameters: got True, allowed: false with --processes; one process cuts them over all GPUs of its",
        ),
        ("dpt --batch-size 1", "processes: got 2, allowed: at most 1, the rows of a batch"),
        ("dpt --batch-size 7", "batch_size: got 7, allowed: a multiple of 2 processes, as 8"),
        ("dpt --batch-size 9 --gradient-groups 3", "batch_size: got 9, allowed: a multiple of 2 processes, as 8"),
        ("dpt --batch-size 18 --gradient-groups 3", "gradient_groups: got 3, allowed: a multiple of 2 processes, as 4"),
    ],
)
def test_what_processes_do_not_share_is_refused_before_they_meet(words, said, tmp_path):
    place = ["--processes", "2", "--process", "1", "--coordinator", "127.0.0.1:1"]
    code, line = command("run", *words.split(), "--preset", "smoke", "--out", tmp_path / "run", *place)
    assert code == 2 and said in line and line.count("\n") == 1


def test_groups_that_the_devices_do_not_share_are_refused_and_the_nearest_are_named(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(InputError, match=r"got 2, allowed: a multiple of 4, .*; --gradient-groups 4 is shared evenly"):
        training_mesh(2)


# --- What each computes ---


def test_each_of_more_devices_does_its_share_of_the_work():
    """Weak scaling: with as many rows a device, a device multiplies as many numbers."""
    recipe = DPTBandit.presets["smoke"]
    policy = jax.eval_shape(lambda: recipe.new_policy(0, 0))
    batch = RunData(None, 0).batches(replaced(recipe, {"batch_size": 8}), 0)(0)
    few, *more = (products_of_a_step(recipe, policy, batch, devices) for devices in (1, 2, 8))
    assert few > 1e5 and all(few / many >= 0.95 for many in more)


def products_of_a_step(recipe: Recipe, policy: Policy, batch: object, devices: int) -> int:
    """Multiplications of each of the devices in a step of which each has the rows of ``batch``."""
    rows = jax.tree.map(lambda x: jnp.concatenate([x] * devices), batch)
    fit = replaced(recipe.fit, {"batch_size": 8 * devices, "gradient_groups": devices}).resolved(policy)
    mesh = AbstractMesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    sums = partial(_sums_on_mesh, fit, recipe.objective(), mesh)
    return products(jax.make_jaxpr(sums)(policy, rows, jnp.int32(0), jax.random.key(0)).jaxpr)


def products(jaxpr) -> int:
    """Multiplications in its matrix products, those of loops as often as they run."""
    total = 0
    for eqn in jaxpr.eqns:
        inner = sum(products(sub) for sub in jaxprs_in_params(eqn.params))
        total += inner * eqn.params.get("length", 1)
        if eqn.primitive.name == "dot_general":
            summed = eqn.params["dimension_numbers"][0][0]
            shape = eqn.invars[0].aval.shape
            total += math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[axis] for axis in summed)
    return total


# --- By night: more of them, kills and signals ---


def told(folder: Path) -> tuple:
    """``of_run``, without the number of devices."""
    results, *rest = of_run(folder)
    return ({key: value for key, value in results.items() if key not in ("device", "run")}, *rest)


@pytest.mark.nightly
@pytest.mark.parametrize(("words", "count", "devices"), [(SMALL, 4, 1), (AD, 4, 1), (SMALL, 2, 2)])
def test_four_devices_of_processes_end_in_the_results_of_one_with_as_many_groups(words, count, devices, tmp_path):
    words = [*words, "--gradient-groups", "4"]
    assert command(*words, "--out", tmp_path / "alone")[0] == 0
    found = Started(tmp_path / "run", words, count, devices).ended()
    assert [code for code, _ in found] == [0] * count, found
    assert told(tmp_path / "run") == told(tmp_path / "alone")


@pytest.mark.nightly
def test_groups_that_three_devices_do_not_share_are_a_line_in_each(tmp_path):
    found = Started(tmp_path / "run", TWELVE, 3).ended(100)
    line = (
        "gradient_groups: got 1, allowed: a multiple of 3, one or more a process; --gradient-groups 3 is shared evenly"
    )
    assert {code for code, _ in found} == {2} and not (tmp_path / "run").exists()
    assert {said for _, said in found} <= {f"icrl: {line}\n", *(f"icrl: process {k}: {line}\n" for k in range(3))}


@pytest.fixture(scope="module")
def long_alone(tmp_path_factory):
    return trained(trained_alone(LONG, tmp_path_factory.mktemp("hosts") / "long"))


@pytest.fixture
def at_work(tmp_path):
    """Two processes that have saved once and train on."""
    team = Started(tmp_path / "run", LONG, 2)
    until(lambda: list(tmp_path.glob("run/checkpoints/*/step-*")), 300)
    return team


def goes_on_to(known: tuple, folder: Path) -> None:
    found = Started(folder, [*LONG, "--resume"], 2).ended()
    assert [code for code, _ in found] == [0, 0], found
    assert trained(folder) == known


@pytest.mark.nightly
@pytest.mark.parametrize("victim", [0, 1])
def test_all_stop_in_one_line_if_one_is_killed_and_go_on_to_the_same_bits(victim, long_alone, at_work, tmp_path):
    at_work.each[victim].kill()
    code, said = at_work.ended(60)[1 - victim]
    last = said.splitlines()[-1]
    assert code == 1 and last == f"icrl: process {victim} is gone; all stop, --resume goes on from the last checkpoint"
    assert all(line.startswith("training seed") for line in said.splitlines()[:-1]), said
    goes_on_to(long_alone, tmp_path / "run")


@pytest.mark.nightly
@pytest.mark.parametrize("told_first", [0, 1])
def test_a_signal_to_one_saves_and_stops_all(told_first, long_alone, at_work, tmp_path):
    at_work.each[told_first].send_signal(signal.SIGTERM)
    found = at_work.ended(60)
    assert [code for code, _ in found] == [143, 143], found
    assert all("stopped by SIGTERM after step" in said.splitlines()[-1] for _, said in found), found
    goes_on_to(long_alone, tmp_path / "run")
