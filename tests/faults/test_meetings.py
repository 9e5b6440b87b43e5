"""How the processes of a run meet, agree and stop together, as threads of one process."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from small_runs import free_port, until

from icrl.core import peers, processes
from icrl.core.errors import IcrlError, InputError, ResourceError
from icrl.core.places import Place
from icrl.core.processes import Over, Team

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
