"""An agent in one file: the same agent anywhere, a card, and one line for a file that is not as it was written."""

import json

import numpy as np
import pytest

import icrl
from icrl.cli import main
from icrl.core.errors import DamagedError, InputError
from icrl.core.foreign import UntrustedError
from icrl.core.registry import environments, experiments
from icrl.recipes import run as runs
from icrl.recipes.agent_names import agent_of
from icrl.recipes.shared import CARD, export_agent, read_shared
from icrl.storage.documents import DIGEST, sealed
from icrl.storage.safetensors import read_arrays, write_arrays
from icrl.storage.strict_json import encode_json

SMALL = {"train_steps": 2, "save_every": 2, "log_every": 1, "warmup_steps": 1}
KINDS = {
    "dpt": ("dpt", {"horizon": 8}),
    "two": ("dpt", {"horizon": 8, "vary": ("model=gru,s5",), "train_seeds": 2}),
    "ad": ("ad", {}),
    "rl2": ("rl2", {}),
    "hybrid": ("dpt", {"model": "hybrid"}),
}
cases = pytest.mark.parametrize(
    "trained", [pytest.param(kind, marks=() if kind == "dpt" else pytest.mark.nightly) for kind in KINDS], indirect=True
)


@pytest.fixture(scope="module")
def trained(request, tmp_path_factory):
    """(run, file) of a run of two steps that has not been evaluated."""
    kind = getattr(request, "param", "dpt")
    experiment, changes = KINDS[kind]
    folder = tmp_path_factory.mktemp("shared") / kind
    small = {
        name: value for name, value in SMALL.items() if experiment != "rl2" or name in ("train_steps", "save_every")
    }
    run = runs.start(experiment, "smoke", 3, {**small, **changes}, folder, resume=False)
    experiments[experiment].pretrain(run.settings, run)
    icrl.export_agent(str(folder), f"{folder}.safetensors", licence="CC0")  # as a script does, by texts
    return folder, folder.parent / f"{kind}.safetensors"


def actions(agent, steps=30):
    """What ``agent`` does where rewards and observations are random."""
    agent.reset(seed=5)
    rng, found = np.random.default_rng(0), []
    spec = agent.spec
    show = lambda: rng.integers(spec.obs_nvec or (1,) * spec.obs_dim).reshape(spec.obs_shape) + (not spec.obs_nvec)  # noqa: E731
    obs = show()
    for t in range(min(steps, agent.max_steps or steps)):
        found.append(agent.act(obs))
        after = show()
        agent.observe(obs, found[-1], float(rng.normal()), after, False, t % 4 == 3)
        obs = after
    return found


@cases
def test_the_file_is_the_agent_of_the_run(trained):
    folder, path = trained
    one, other = icrl.load_agent(folder), icrl.load_agent(path)
    assert actions(one) == actions(other) and one.spec == other.spec
    card = read_shared(path).card
    assert (card["licence"], card["seed"], card["results"]) == ("CC0", 3, None)
    assert card["versions"]["icrl"] and card["spec"]["name"] == one.spec.name
    last = experiments[card["experiment"]].num_models(runs.reopen(folder).settings) - 1
    export_agent(folder, path.with_name("last.safetensors"), number=last)
    assert actions(icrl.load_agent(path.with_name("last.safetensors"))) == actions(icrl.load_agent(folder, seed=last))


def test_two_exports_are_the_same_bytes_and_others_read_them(trained, capsys):
    folder, path = trained
    again = path.with_name("again.safetensors")
    assert main(["export-agent", str(folder), str(again), "--licence", "CC0"]) == 0
    assert again.read_bytes() == path.read_bytes()
    assert main(["verify", str(again)]) == 0
    assert "intact: an agent, DPT of dpt, licence CC0" in capsys.readouterr().out
    library = pytest.importorskip("safetensors")
    with library.safe_open(path, "numpy") as file:
        arrays, texts = read_arrays(path)
        assert file.metadata() == texts and set(file.keys()) == set(arrays)
        assert all(np.array_equal(file.get_tensor(name), arrays[name]) for name in arrays)


def test_it_plays_elsewhere(trained):
    _, path = trained
    env = environments["BernoulliBandit-v0"](num_arms=3, horizon=8)
    assert agent_of(env, f"run:{path}").act_greedy is not None
    with pytest.raises(InputError, match="whose num_actions is"):
        agent_of(environments["BernoulliBandit-v0"](num_arms=9), f"run:{path}")
    with pytest.raises(
        InputError, match=r"^env: num_actions of DarkRoom is 5, the agent learned in GaussianBandit, where"
    ):
        icrl.load_agent(path, env=environments["DarkRoom-v0"]())


def rewritten(path, change_card=None, change_arrays=None, seal=True):
    """Another file with a changed card and arrays, which is right in all other respects."""
    arrays, texts = read_arrays(path)
    card, arrays = json.loads(texts[CARD]), dict(arrays)
    card.pop(DIGEST)
    if change_card:
        change_card(card)
    if change_arrays:
        change_arrays(arrays)
    other = path.with_name("other.safetensors")
    write_arrays(other, arrays, {**texts, CARD: encode_json(sealed(card) if seal else card).decode()})
    return other


def refused(path):
    with pytest.raises(DamagedError) as caught:
        icrl.load_agent(path)
    line = str(caught.value)
    assert "\n" not in line and path.name in line
    assert main(["verify", str(path)]) == 3
    return line


FIRST = "params/embed/bias"
CARDS = {
    "unknown setting 'wings'": lambda card: card["settings"].update(wings=2),
    "width: got 0": lambda card: card["settings"].update(width=0),
    "unknown model 'evil'": lambda card: card["settings"].update(model="evil"),
    "spec: num_actions is 7": lambda card: card["spec"].update(num_actions=7),
    "expected the fields": lambda card: card.pop("variant"),
    "seed: expected an integer": lambda card: card.update(seed="1"),
    "sha256 of the weights: expected 00": lambda card: card.update(weights_sha256="00"),
    "found no such array": lambda card: card["settings"].update(num_layers=2),
    "expected float32 of shape [": lambda card: card["settings"].update(width=32),
}
ARRAYS = {
    f"{FIRST}: found no such array": lambda arrays: arrays.pop(FIRST),
    "extra: found one that the model does not have": lambda arrays: arrays.update(extra=np.zeros(3, np.float32)),
    f"{FIRST}: expected float32 of shape [16], found float32 of shape [4]": lambda arrays: arrays.update(
        {FIRST: np.zeros(4, np.float32)}
    ),
    f"{FIRST}: expected float32 of shape [16], found float64": lambda arrays: arrays.update({FIRST: np.zeros(16)}),
    "sha256 of the weights": lambda arrays: arrays.update({FIRST: arrays[FIRST] + 1}),
}


@pytest.mark.parametrize("line", CARDS)
def test_a_card_that_is_not_of_the_agent(trained, line):
    assert line in refused(rewritten(trained[1], CARDS[line]))


@pytest.mark.parametrize("line", ARRAYS)
def test_weights_that_are_not_of_the_card(trained, line):
    assert line in refused(rewritten(trained[1], change_arrays=ARRAYS[line]))


def test_a_card_without_its_digest(trained):
    assert "card: sha256: expected None" in refused(rewritten(trained[1], seal=False))


def test_a_file_of_others(trained):
    other = trained[1].with_name("theirs.safetensors")
    write_arrays(other, {"weight": np.zeros(3, np.float32)}, {"format": "pt"})
    assert "found no card of one" in refused(other)


def test_a_newer_file_is_no_damage(trained):
    with pytest.raises(InputError, match=r"schema: got 2, allowed: 1, or a newer icrl"):
        icrl.load_agent(rewritten(trained[1], lambda card: card.update(schema=2)))


def test_a_file_imports_nothing(trained):
    other = rewritten(trained[1], lambda card: card["settings"].update(env="this_is_not_there:Maze-v0"))
    with pytest.raises(UntrustedError, match="--allow-import this_is_not_there"):
        icrl.load_agent(other)
    assert main(["verify", str(other)]) == 2


def test_a_cut_or_flipped_file_never_loads(trained):
    """Cut at 60 places, flipped at 300; nothing but our own errors, and never an agent."""
    data, other = trained[1].read_bytes(), trained[1].with_name("cut.safetensors")
    for size in np.linspace(0, len(data) - 1, 60).astype(int).tolist():
        other.write_bytes(data[:size])
        assert "cut.safetensors" in refused(other)
    other.write_bytes(data + b"\0")
    assert "bytes of arrays" in refused(other)
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data), size=300).tolist():
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        other.write_bytes(changed)
        with pytest.raises((DamagedError, InputError)):
            read_shared(other)


HEADERS = {
    "length beyond the file": lambda head: (2**60).to_bytes(8, "little") + head,
    "no JSON": lambda head: (8).to_bytes(8, "little") + b"{" * 8,
    "a list": lambda head: (8).to_bytes(8, "little") + b"[1,2,3] ",
    "an entry that is none": lambda head: (8).to_bytes(8, "little") + b'{"a":1} ',
    "a negative shape": lambda head: entry('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}') + b"\0" * 4,
    "a huge shape": lambda head: (
        entry('{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}') + b"\0" * 4
    ),
    "an unknown dtype": lambda head: entry('{"a":{"dtype":"O","shape":[1],"data_offsets":[0,8]}}') + b"\0" * 8,
    "a hole": lambda head: entry('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}') + b"\0" * 8,
    "texts that are none": lambda head: entry('{"__metadata__":{"icrl":3}}'),
    "a name twice": lambda head: entry('{"__metadata__":{},"__metadata__":{}}'),
}


def entry(text):
    return len(text).to_bytes(8, "little") + text.encode()


@pytest.mark.parametrize("case", HEADERS)
def test_headers_without_sense_are_damage(tmp_path, case):
    (tmp_path / "x.safetensors").write_bytes(HEADERS[case](b""))
    with pytest.raises(DamagedError) as caught:
        read_arrays(tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value) and "x.safetensors" in str(caught.value)


def test_arrays_come_back_as_they_were(tmp_path):
    kinds = (bool, np.int8, np.uint16, np.int32, np.float16, np.float32, np.float64, np.complex64)
    arrays = {f"{kind.__name__}": np.arange(6).reshape(2, 3).astype(kind) for kind in kinds}
    arrays |= {"none": np.zeros((0, 3), np.float32), "one": np.float32(2.5).reshape(())}
    write_arrays(tmp_path / "x", arrays, {"a": "ä\n"})
    found, texts = read_arrays(tmp_path / "x")
    assert texts == {"a": "ä\n"} and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("x.bin",), "file: got 'x.bin', allowed: a name that ends in .safetensors"),
        (("x.safetensors", "--number", "1"), "number: got 1, allowed: an integer in [0, 0]"),
        (("x.safetensors", "--number", "one"), "number: got 'one', allowed: an integer"),
    ],
)
def test_bad_words(trained, words, line, capsys):
    assert main(["export-agent", str(trained[0]), *words]) == 2
    assert line in capsys.readouterr().err
