"""Files in Cassandra's format: what was written is read, what is wrong is one line with file, line and field."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icrl.core.errors import InputError
from icrl.core.registry import environments
from icrl.core.settings import flat, replaced
from icrl.envs._pomdp_text import parse
from icrl.envs.pomdp_file import EXAMPLE, POMDPFile
from icrl.envs.tiger import Tiger
from icrl.gym.environments import IcrlEnv
from icrl.planning.alpha_vectors import plan_at
from icrl.planning.bounds import start_value
from icrl.planning.reachable_beliefs import reachable

FILES = Path(__file__).parent / "pomdps"
TIGER = (FILES / "tiger.POMDP").read_text()


def test_tiger_from_a_file_is_ours():
    env = environments.make(f"pomdp:{FILES / 'tiger.POMDP'}")
    assert (env.discount, env.num_actions, env.spec.obs_nvec, env.spec.ends_early) == (0.95, 3, (3,), False)
    values = [
        start_value(each, plan_at(each, reachable(each, 60), 60, 0.95)[0][0]) for each in (env.pomdp, Tiger().pomdp)
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_every_form_of_an_entry():
    """Costs, counts, wildcards, ``reset``, rows, matrices; later entries hold; rewards by observation averaged."""
    model = POMDPFile(file=str(FILES / "two-state.POMDP")).model
    assert model.discount == 0.9 and model.start.tolist() == [0, 1]
    assert model.transition[:, 0].tolist() == [[0.75, 0.25]] * 3
    assert model.transition[:, 1].tolist() == [[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]
    assert model.observation.tolist() == [[[0.5, 0.5]] * 2] * 2 + [[[1.0, 0.0], [0.125, 0.875]]]
    assert model.reward.tolist() == [[[-1, -4], [0, 0]], [[0, -3], [0, -3]], [[-0.5, -0.5]] * 2]


def test_what_rounding_leaves_of_a_row_is_divided_out():
    row = parse(TIGER.replace("0.85 0.15", "0.84996 0.15", 1), "f").observation[0, 0]
    np.testing.assert_allclose(row, [0.84996 / 0.99996, 0.15 / 0.99996], rtol=1e-12)


def test_the_grid():
    model = POMDPFile(file=str(FILES / "grid-4x3.POMDP")).model
    names = model.names["states"]
    assert len(names) == 11 and model.start[[names.index("c32"), names.index("c31")]].tolist() == [0, 0]
    east, corner = model.names["actions"].index("east"), names.index("c00")
    row = dict(zip(names, model.transition[east, corner].tolist(), strict=True))
    assert {name: p for name, p in row.items() if p} == {"c10": 0.8, "c01": 0.1, "c00": 0.1}
    assert np.allclose(model.transition[0, names.index("c32")], model.start)
    example = POMDPFile()
    assert example.model.names["states"] == ("good", "worn") and example.discount == 0.95


# -- write and read ---------------------------------------------------------------------------------------------------


def written(rng, num_states, num_actions, num_obs):
    """(text, T, O, R, start) of a random POMDP, each table in one of the forms that the format has for it."""
    names = {
        kind: [f"{kind}{i}" for i in range(n)]
        for kind, n in zip("sao", (num_states, num_actions, num_obs), strict=True)
    }
    lines = [f"discount: {rng.random()!r}", "values: " + (how := ["reward", "cost"][rng.integers(2)])]
    for kind, word in (("s", "states"), ("a", "actions"), ("o", "observations")):
        numbers = rng.integers(2)
        lines.append(f"{word}: " + (str(len(names[kind])) if numbers else " ".join(names[kind])))
        names[kind] = [str(i) for i in range(len(names[kind]))] if numbers else names[kind]
    start = rng.dirichlet(np.ones(num_states))
    lines += ["start: # a vector, on the next line", " ".join(map(repr, start.tolist()))]
    tables = []
    for head, width, last in (("T", num_states, "s"), ("O", num_obs, "o")):
        table = rng.dirichlet(np.ones(width), (num_actions, num_states))
        for a, action in enumerate(names["a"]):
            form = rng.integers(3)
            if form == 0:
                lines += [f"{head}: {action}", *(" ".join(map(repr, row)) for row in table[a].tolist())]
            for s, state in enumerate(names["s"]):
                row = table[a, s].tolist()
                if form == 1:
                    lines += [f"{head} :{action}:{state}", " ".join(map(repr, row))]
                elif form == 2:
                    lines += [f"{head}: {action} : {state} : {names[last][i]} {p!r}" for i, p in enumerate(row)]
        tables.append(table)
    reward = rng.normal(size=(num_actions, num_states, num_states, num_obs)).round(3)
    lines.append("R: * : * : * : * 7")
    for a, s in np.ndindex(num_actions, num_states):
        head, form = f"R: {names['a'][a]} : {names['s'][s]}", rng.integers(3)
        if form == 0:
            lines += [head, *(" ".join(map(repr, row)) for row in reward[a, s].tolist())]
        for n in range(num_states) if form else ():
            row = reward[a, s, n].tolist()
            if form == 1:
                lines += [f"{head} : {names['s'][n]}", " ".join(map(repr, row))]
            else:
                lines += [f"{head} : {names['s'][n]} : {names['o'][o]} {v!r}" for o, v in enumerate(row)]
    return "\n".join(lines), *tables, reward * (1 if how == "reward" else -1), start


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_a_written_pomdp_is_read_back(seed, num_states, num_actions, num_obs):
    text, transition, observation, reward, start = written(
        np.random.default_rng(seed), num_states, num_actions, num_obs
    )
    model = parse(text, "file")
    np.testing.assert_allclose(model.transition, transition, atol=1e-12)
    np.testing.assert_allclose(model.observation, observation, atol=1e-12)
    np.testing.assert_allclose(model.start, start, atol=1e-12)
    np.testing.assert_allclose(model.reward, np.einsum("asno,ano->asn", reward, observation), atol=1e-9)


# -- what is wrong ----------------------------------------------------------------------------------------------------

WRONG = {  # (what is exchanged for what) to (line, field, a part of the rest)
    ("0.85 0.15", "0.85 0.25"): (16, "O: listen : tiger-left", "a sum of 1.1"),
    ("T: open-left\nuniform\n", ""): (25, "T: open-left : tiger-left", "a sum of 0"),
    ("discount: 0.95", "discount: -0.5"): (2, "discount", "'-0.5', allowed: a number in [0, 1]"),
    ("discount: 0.95", "discount: 1.5"): (2, "discount", "'1.5'"),
    ("discount: 0.95\n", ""): (26, "discount", "got nothing"),
    ("discount: 0.95", "discount: 0.95\ndiscount: 0.95"): (3, "discount", "a second one"),
    ("discount: 0.95", "discount: nan"): (2, "discount", "'nan'"),
    ("discount: 0.95", "discount: 1_0"): (2, "discount", "'1_0'"),
    ("values: reward", "values: joy"): (3, "values", "'joy', allowed: reward or cost"),
    ("R: open-left : tiger-left", "R: open-left : tiger-lift"): (24, "state", "did you mean tiger-left"),
    ("O: open-right", "O: open-write"): (20, "action", "did you mean open-right"),
    ("T: listen\nidentity", "T: listen\nidentical 1 1 1"): (9, "T", "'identical', allowed: a number in [0, 1]"),
    ("T: listen\nidentity", "T: listen\n1 0 0"): (10, "T", "'T'"),
    ("T: listen\nidentity", "T: listen\n1 0 0 1 1"): (9, "keyword", "'1'"),
    ("T: listen\nidentity", "T: listen\n1 0 0 -1"): (9, "T", "'-1'"),
    ("# The tiger", "tiger"): (1, "keyword", "'tiger', allowed: one of"),
    ("states: tiger-left tiger-right", "states: 0"): (4, "states", "0 of them"),
    ("states: tiger-left tiger-right", "states: a a"): (4, "states", "all different"),
    ("states: tiger-left tiger-right", "states: 99999999999999"): (4, "states", "1 to 512"),
    ("states: tiger-left tiger-right", "states: x! y"): (4, "states", "'x!'"),
    ("states: tiger-left tiger-right\n", ""): (7, "T", "no states yet"),
    ("observations: hear-left hear-right", "observations:"): (6, "observations", "0 of them"),
    ("R: listen : * : * : * -1", "R: listen : * : * : * 1e99"): (23, "R", "'1e99'"),
    ("R: listen : * : * : * -1", "R: listen : * : * : * exit()"): (23, "R", "'exit()'"),
    ("R: listen : * : * : * -1", "R: listen -1"): (23, "R", "allowed: a colon"),
    ("actions: listen", "start: nowhere\nactions: listen"): (5, "state", "'nowhere'"),
    ("actions: listen", "start: 0.5 0.6\nactions: listen"): (5, "start", "a sum of 1.1"),
    ("actions: listen", "start include: \nactions: listen"): (5, "start include", "no state"),
    ("actions: listen", "start exclude: 0 1\nactions: listen"): (5, "start exclude", "no state"),
}  # fmt: skip


@pytest.mark.parametrize("change", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_one_line(change):
    line, field, rest = WRONG[change]
    assert change[0] in TIGER
    with pytest.raises(InputError) as refusal:
        parse(TIGER.replace(*change, 1), "my.POMDP")
    text = str(refusal.value)
    assert "\n" not in text
    assert text.startswith(f"my.POMDP: line {line}: {field}: got ")
    assert rest in text


def test_missing_rewards_are_missing():
    text = "\n".join(line for line in TIGER.splitlines() if not line.startswith("R"))
    with pytest.raises(InputError, match=r"^f: line 21: R: got no rewards, allowed: at least one entry"):
        parse(text, "f")


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.data())
def test_hostile_files_are_read_or_refused_in_one_line(data):
    """Lines dropped, swapped and cut, words put in: never anything but a model or an ``InputError`` of one line."""
    words = EXAMPLE.replace(":", " : ").split(" ")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(words) - 1))
        word = data.draw(
            st.sampled_from(["", ":", "T", "*", "9" * 5000, "-1", "1e400", "\x00", "é", "R", "\n", "start"])
        )
        words = data.draw(st.sampled_from([words[:at], [*words[:at], word, *words[at:]], [*words[at:], *words[:at]]]))
        words = words or [""]
    try:
        parse(" ".join(words), "f")
    except InputError as refusal:
        assert "\n" not in str(refusal) and str(refusal).startswith("f: line ")


# -- the file itself --------------------------------------------------------------------------------------------------


def test_a_stored_name_finds_its_file_again_and_refuses_another(tmp_path, monkeypatch):
    path = tmp_path / "a.POMDP"
    shutil.copy(FILES / "tiger.POMDP", path)
    monkeypatch.chdir(tmp_path)
    env = environments.make("pomdp:a.POMDP")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert env.file == f"{path.resolve()}@{digest}"
    monkeypatch.chdir("/")
    assert replaced(POMDPFile(), flat(env)) == env == POMDPFile(file=env.file)
    path.write_text(TIGER.replace("0.85 0.15", "0.75 0.25"))
    with pytest.raises(InputError, match=r"^file: got '\.\.\.@[0-9a-f]{16}', allowed: '?\.\.\.@.* has changed"):
        POMDPFile(file=env.file)
    assert POMDPFile(file=str(path)) != env


@pytest.mark.parametrize("file", ["nowhere.POMDP", ".", "\x00", "x" * 5000, "~nobody-of-this-name/x"])
def test_what_is_no_file_is_refused_by_name(file):
    with pytest.raises(InputError, match=r"^file: got ") as refusal:
        POMDPFile(file=file)
    assert "\n" not in str(refusal.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "b.POMDP").write_bytes(b"\xff\xfe\x00states")
    with pytest.raises(InputError, match=r"^file: got .*b\.POMDP', allowed: the path of a \.POMDP file"):
        POMDPFile(file=str(tmp_path / "b.POMDP"))


def test_the_name_opens_the_file_everywhere():
    name = f"pomdp:{FILES / 'tiger.POMDP'}"
    assert environments.entry(name).name == "POMDPFile-v0" and environments[name] is POMDPFile
    assert IcrlEnv(name, horizon=3).family == POMDPFile(file=str(FILES / "tiger.POMDP"), horizon=3)
    for unknown, said in (
        ("pomdp", "unknown environment"),
        ("pomdq:x", "'pomdq', allowed: a module that Python finds"),
    ):
        with pytest.raises(InputError, match=said):
            environments.make(unknown)
