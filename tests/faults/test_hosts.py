"""Several processes train one run: they end in the bits of one, all stop if one does, and what differs is refused."""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import AbstractMesh, AxisType
from small_runs import command
from test_f1_kills import of_run

from icrl.core import peers, processes
from icrl.core.devices import training_mesh
from icrl.core.errors import IcrlError, InputError, ResourceError
from icrl.core.flags import values_of
from icrl.core.places import Place, place_of
from icrl.core.processes import Over, Team
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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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


# --- How they meet ---


FACTS = {"seed": 0, "train_steps": 4, "jax": "0.10.2"}


@pytest.fixture
def meeting() -> Iterator[Callable[..., list]]:
    """What comes of processes that want to meet, as threads: their peers, or the error."""
    known: list = []

    def all_of(*places: tuple[Place, dict]) -> list:
        known.extend(met(*places))
        return known[-len(places) :]

    yield all_of
    for each in known:
        for peer in each.values() if isinstance(each, dict) else ():
            peer.close()


def met(*places: tuple[Place, dict]) -> list:
    def meet(place: Place, facts: dict) -> object:
        try:
            return peers.meet(place, facts)
        except IcrlError as error:
            return error

    with ThreadPoolExecutor(len(places)) as pool:
        return [each.result() for each in [pool.submit(meet, *asked) for asked in places]]


@pytest.fixture
def at() -> Callable[..., Place]:
    port = free_port()
    return lambda number, count=2: Place(number, count, "127.0.0.1", port)


def address(place: Place) -> tuple[str, int]:
    return place.host, place.port


def test_processes_that_know_the_same_meet(at, meeting):
    first, second, third = meeting((at(0, 3), FACTS), (at(1, 3), FACTS), (at(2, 3), FACTS))
    assert sorted(first) == [1, 2] and list(second) == list(third) == [0]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            FACTS | {"train_steps": 5},
            "process 1: differs from process 0: train_steps 5, not 4; all are to be given the same",
        ),
        (FACTS | {"seed": 1}, "process 1: differs from process 0: seed 1, not 0"),
        (FACTS | {"jax": "0.11.0"}, "process 1: differs from process 0: jax '0.11.0', not '0.10.2'"),
        (FACTS | {"more": 1}, "process 1: differs from process 0: more 1, not None"),
    ],
)
def test_other_settings_seeds_and_versions_are_refused_in_both(facts, said, at, meeting):
    for error in meeting((at(0), FACTS), (at(1), facts)):
        assert isinstance(error, InputError) and said in str(error)


def test_other_counts_and_a_number_twice_are_refused(at, meeting):
    for error in meeting((at(0), FACTS), (at(1, 3), FACTS)):
        assert "process 1: knows of 3 processes, process 0 of 2" in str(error)
    first, *_ = meeting((at(0, 3), FACTS), (at(1, 3), FACTS), (at(1, 3), FACTS))
    assert "process: got 1 twice, allowed: each of 0 to 2 once" in str(first)


@pytest.mark.parametrize(
    "hello", [b"GET / HTTP/1.1\n", b'["hello"]\n', b'["hello", 1, 2, 3]\n', b"[" * 10**5, b"1\n", b"\xff"]
)
def test_strangers_are_not_counted(hello, at):
    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(peers._lead, at(0), FACTS)
        while True:
            with contextlib.suppress(OSError), socket.create_connection(address(at(0))) as stranger:
                stranger.sendall(hello)
                break
        (first,), (second,) = peers._follow(at(1), FACTS).values(), leading.result().values()
    first.close()
    second.close()


def test_a_coordinator_that_does_not_answer_is_named(at, monkeypatch):
    monkeypatch.setattr(peers, "JOINING", 0.3)
    monkeypatch.setattr(peers, "SILENCE", 0.1)
    with pytest.raises(ResourceError, match=r"coordinator: 127.0.0.1:\d+ has not answered in 0 s; .*refused"):
        peers._follow(at(1), FACTS)
    with (
        socket.create_server(address(at(0))),
        pytest.raises(ResourceError, match=r"has not answered in 0 s; process 0 is to run there \(it is silent\)"),
    ):
        peers._follow(at(1), FACTS)


def test_processes_that_do_not_come_are_named_and_others_told(at, meeting, monkeypatch):
    monkeypatch.setattr(peers, "GATHERING", 0.5)
    first, second = meeting((at(0, 4), FACTS), (at(2, 4), FACTS))
    assert isinstance(first, ResourceError) and "2 of 4 have not come" in str(first) and str(first).endswith("1, 3")
    assert second[0].receive(5) == ["end", 5, str(first)]


def test_a_port_that_is_taken_is_named(at):
    with socket.create_server(address(at(0))), pytest.raises(InputError, match=r"cannot listen at 127.0.0.1:.*in use"):
        peers._lead(at(0), FACTS)


# --- A team of threads ---


class Exits(list):
    """Codes with which threads that listen would have ended the process."""

    def __call__(self, code: int) -> None:
        self.append(code)


@pytest.fixture
def pair(at, meeting, monkeypatch):
    """Process 0 and process 1 of a team, and the codes with which they would have ended."""
    codes = Exits()
    monkeypatch.setattr(processes.os, "_exit", codes)
    monkeypatch.setattr(processes, "GRACE", 0.1)
    monkeypatch.setattr(processes, "leave_service", lambda: None)
    first, second = meeting((at(0), FACTS), (at(1), FACTS))
    both = Team(at(0), first), Team(at(1), second)
    yield (*both, codes)
    for each in both:
        each._left = True  # or its thread would end this process


def side_by_side(*calls: Callable[[], object]) -> list:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.exception() or each.result() for each in [pool.submit(call) for call in calls]]


def until(found: Callable[[], object], seconds: float = 5) -> None:
    for _ in range(int(100 * seconds)):
        if found():
            return
        time.sleep(0.01)
    raise AssertionError("nothing came")


def test_processes_agree(pair):
    first, second, codes = pair
    agreed = side_by_side(lambda: first.agree("state", "abc"), lambda: second.agree("state", "abc"))
    assert agreed == [None, None] and codes == []


def test_other_states_stop_both_in_one_line(pair, capsys):
    first, second, codes = pair
    threading.Thread(target=lambda: second.agree("state", "abd"), daemon=True).start()
    with pytest.raises(InputError, match="process 1: state 'abd', of process 0 state 'abc'") as raised:
        first.agree("state", "abc")
    first.fail(raised.value)
    until(lambda: codes)
    said = capsys.readouterr().err
    assert codes == [2] and said.startswith("icrl: process 0: process 1: state 'abd'") and said.count("\n") == 1


@pytest.mark.parametrize("gone", [0, 1])
def test_a_process_that_is_gone_stops_the_other_in_one_line(gone, pair, capsys):
    pair[gone]._left = True  # it says nothing
    pair[gone]._peers[1 - gone].close()
    until(lambda: pair[2])
    assert pair[2] == [1]
    assert (
        capsys.readouterr().err
        == f"icrl: process {gone} is gone; all stop, --resume goes on from the last checkpoint\n"
    )


def test_followers_are_dismissed(pair):
    first, second, codes = pair
    dismissed = side_by_side(first.dismiss, second.wait_for_the_end)
    second.leave()
    assert dismissed == [None, None] and codes == []


def test_there_may_be_nothing_to_do(pair):
    first, second, _ = pair
    assert isinstance(side_by_side(first.dismiss, lambda: second.agree("state"))[1], Over)


def test_a_signal_reaches_process_0_once(pair):
    first, second, _ = pair
    second.ask_to_stop(15)
    until(lambda: first.asked)
    first.asked = None
    second.ask_to_stop(15)
    time.sleep(0.05)
    assert first.asked is None


def test_a_bug_in_one_is_told_to_the_other(pair, capsys):
    _, second, codes = pair
    second.fail(TypeError("no such thing"))
    until(lambda: codes)
    assert codes == [1] and capsys.readouterr().err == "icrl: process 1: no such thing\n"


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
