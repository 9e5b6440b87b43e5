"""Checkpoints: bit for bit, damage found, the wrong template and the wrong owner named."""

import os
import platform
import random
import re
import shutil
import socket
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint  # noqa: F401 - imported before the fork, so that a killed child costs little
import pytest
from checkpoint_states import files_of, same_bits, small_state

from icrl.core.errors import DamagedError, InputError
from icrl.storage import checkpoints
from icrl.storage.checkpoints import restore, save, steps
from icrl.storage.publish import verify_folder


def odd_state() -> dict:
    """Every dtype and shape that has been trouble somewhere."""
    return {
        "nan": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45], jnp.float32),
        "zeros": jnp.zeros((5, 7)),
        "bfloat16": jnp.array([1.5, jnp.nan], jnp.bfloat16),
        "float16": jnp.array([[1.5]], jnp.float16),
        "bool": jnp.array([True, False]),
        "int8": jnp.int8(-3),
        "uint32": jnp.uint32(2**32 - 1),
        "empty": jnp.zeros((0, 3)),
        "key": jax.random.key(7),
        "keys": jax.random.split(jax.random.key(8, impl="rbg"), 3),
        "numpy": np.arange(6, dtype=np.int32).reshape(2, 3)[:, ::2],
        "scalar": np.float32(0.1),
        "names/with.dots and ..": {"..": jnp.ones(2)},
        "numbers": {3: jnp.ones(1)},
    }


def damage(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


# --- Round trip ---


@pytest.mark.parametrize("make", [small_state, odd_state])
def test_restored_bits_are_equal(tmp_path, make):
    state = make()
    final = save(tmp_path, 1000, state, {"loss": 0.5})
    assert final == tmp_path / "step-00001000" and steps(tmp_path) == [1000]
    restored, step, meta = restore(tmp_path, state)
    assert same_bits(restored, state) and (step, meta) == (1000, {"loss": 0.5})
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored))
    abstract = jax.eval_shape(make) if make is small_state else state
    assert same_bits(restore(tmp_path, abstract)[0], state)


def test_restored_state_trains_on_to_the_same_bits(tmp_path):
    optimizer = optax.adamw(1e-2)
    params = {"w": jax.random.normal(jax.random.key(0), (8, 8))}

    @jax.jit
    def advance(params, moments):
        gradient = jax.grad(lambda p: jnp.sum(jnp.tanh(p["w"]) ** 2))(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments

    state = (params, optimizer.init(params))
    for n in range(3):
        state = advance(*state)
        save(tmp_path, n, state)
    restored, _, _ = restore(tmp_path, state)
    for _ in range(3):
        state, restored = advance(*state), advance(*restored)
    assert same_bits(tuple(state), tuple(restored))


def test_steps_are_ordered_by_number_and_old_ones_removed(tmp_path):
    for number in (5, 50, 1000, 100_000_000):
        save(tmp_path, number, {"x": jnp.float32(number)})
    (tmp_path / "step-2000").mkdir()
    (tmp_path / "step-000001000").mkdir()
    (tmp_path / "notes").write_text("")
    assert steps(tmp_path) == [1000, 100_000_000] and steps(tmp_path / "none") == []
    os.utime(tmp_path / "step-00001000", (2e9, 2e9))  # the clock says it is the newest
    assert restore(tmp_path, {"x": jnp.float32(0)})[1] == 100_000_000
    assert float(restore(tmp_path, {"x": jnp.float32(0)}, step=1000)[0]["x"]) == 1000
    save(tmp_path, 100_000_001, {"x": jnp.float32(0)}, keep=3)
    assert len(steps(tmp_path)) == 3


def test_equal_states_have_equal_digests_and_no_time_or_place(tmp_path, monkeypatch):
    """A host may have a name of two letters, which compressed bytes hold by chance: ours is told another one."""
    host = "a-host-like-no-other"
    real, named = os.uname().nodename, os.uname_result(("Linux", host, *os.uname()[2:]))
    monkeypatch.setattr(os, "uname", lambda: named)
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(platform, "node", lambda: host)
    one, two = (save(tmp_path / name, 1, small_state(3)) for name in ("one", "two"))
    assert verify_folder(one) == verify_folder(two)
    written = b"".join(path.read_bytes() for path in files_of(one))
    for secret in (str(tmp_path), tmp_path.name, "icrl-tmp", host, "timestamp"):
        assert secret.encode() not in written, secret
    text = b"\n".join(re.findall(rb"[\x20-\x7e]{8,}", written))  # what is written in letters
    assert not re.search(rb"\b" + re.escape(real.encode()) + rb"\b", text), real


def test_nothing_is_said_on_the_console(tmp_path, capfd, caplog):
    save(tmp_path, 1, small_state())
    restore(tmp_path, small_state())
    assert capfd.readouterr() == ("", "") and caplog.text == ""


# --- Refusals ---


def refuse(match: str, action, *args, **kwargs) -> None:
    with pytest.raises(InputError, match=match) as caught:
        action(*args, **kwargs)
    assert "\n" not in str(caught.value)


def test_every_leaf_of_the_template_is_compared(tmp_path):
    state = small_state()
    save(tmp_path, 1, state)
    leaves, structure = jax.tree.flatten(state)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(state)]
    for n, (name, leaf) in enumerate(zip(names, leaves, strict=True)):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        other_dtype = jax.random.key(0, impl="rbg") if is_key else jnp.zeros(leaf.shape, jnp.bfloat16)
        same_size = jax.random.key_data(leaf) if is_key else jnp.zeros(leaf.shape, jnp.uint32)
        other_shape = jax.random.split(leaf) if is_key else jnp.zeros((*leaf.shape, 1), leaf.dtype)
        for wrong in (other_dtype, same_size, other_shape):
            template = structure.unflatten([*leaves[:n], wrong, *leaves[n + 1 :]])
            held, wanted = (f"{each.dtype}{list(each.shape)}" for each in (leaf, wrong))
            message = f"leaf {name}: the checkpoint holds {held}, the model expects {wanted};"
            refuse(re.escape(message), restore, tmp_path, template)
    template = {**state, "params": {**state["params"], "extra": jnp.ones(1)}}
    refuse(r"leaf params/extra: the checkpoint holds no such leaf", restore, tmp_path, template)
    template = {**state, "params": {"layer": state["params"]["layer"]}}
    refuse(r"leaf params/scale: .* the model expects no such leaf", restore, tmp_path, template)
    template = {**state, "params": {"layer": state["params"]["layer"], "skale": state["params"]["scale"]}}
    refuse(r"leaf params/scale: .* \(and 1 more leaves differ\)", restore, tmp_path, template)


def test_bad_arguments_are_named(tmp_path):
    refuse("holds no checkpoint", restore, tmp_path / "none", {"x": jnp.ones(1)})
    for step in (-1, 1.0, True, "3"):
        refuse("step: got", save, tmp_path, step, {"x": jnp.ones(1)})
    refuse("keep: got 0", save, tmp_path, 1, {"x": jnp.ones(1)}, keep=0)
    refuse("state: got 'no leaf'", save, tmp_path, 1, {})
    refuse("leaf a/b: got 3, allowed: an array", save, tmp_path, 1, {"a": {"b": 3}})
    refuse("leaf x: dtype: got 'float64'", save, tmp_path, 1, {"x": np.ones(3)})
    refuse("leaf: got 'a/b'", save, tmp_path, 1, {"a": {"b": jnp.ones(1)}, "a/b": jnp.ones(1)})
    refuse("meta: cannot be written as JSON", save, tmp_path, 1, {"x": jnp.ones(1)}, {"loss": float("nan")})
    assert not tmp_path.exists() or list(tmp_path.iterdir()) == []
    save(tmp_path, 5, {"x": jnp.ones(1)})
    refuse(r"step: got 4, .* already holds step 5", save, tmp_path, 4, {"x": jnp.ones(1)})
    refuse(r"step: got 5, .* already holds step 5", save, tmp_path, 5, {"x": jnp.ones(1)})
    refuse(r"step: got 4, allowed: a saved step, one of \[5\]", restore, tmp_path, {"x": jnp.ones(1)}, step=4)


# --- Damage ---


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.nightly)])
def test_no_bit_flip_is_silent(tmp_path, count):
    """Weighted by file rather than by size, one in four in the manifest; each flip meets the whole of ``restore``."""
    final = save(tmp_path, 1, small_state())
    chance, files = random.Random(3), files_of(final)
    for n in range(count):
        path = final / "manifest.json" if n % 4 == 0 else chance.choice(files)
        good = path.read_bytes()
        damage(path, chance)
        with pytest.raises(DamagedError, match=re.escape(path.name)):
            restore(tmp_path, small_state())
        path.write_bytes(good)
    assert same_bits(restore(tmp_path, small_state())[0], small_state())


def test_no_truncation_deletion_or_addition_is_silent(tmp_path):
    final = save(tmp_path, 1, small_state())
    for path in files_of(final):
        good = path.read_bytes()
        for broken in (good[:-1], good[: len(good) // 2], b"", good + b"x", None):
            path.unlink() if broken is None else path.write_bytes(broken)
            with pytest.raises(DamagedError, match=re.escape(path.name)):
                restore(tmp_path, small_state())
            path.write_bytes(good)
    (final / "state" / "more").write_bytes(b"")
    with pytest.raises(DamagedError, match="more"):
        restore(tmp_path, small_state())


def test_swapped_checkpoints_are_found(tmp_path):
    """Equal shapes, right digests, wrong place: a step that lies under another step's name, and state files swapped."""
    save(tmp_path, 1, small_state(1))
    save(tmp_path, 2, small_state(2))
    shutil.copytree(tmp_path / "step-00000002", tmp_path / "step-00000003")
    with pytest.raises(DamagedError, match="expected the checkpoint of step 3, found 2"):
        restore(tmp_path, small_state(), step=3)
    shutil.rmtree(tmp_path / "step-00000002" / "state")
    shutil.copytree(tmp_path / "step-00000001" / "state", tmp_path / "step-00000002" / "state")
    with pytest.raises(DamagedError):
        restore(tmp_path, small_state(), step=2)


def test_state_digest_guards_what_orbax_returns(tmp_path, monkeypatch):
    original = checkpoints._orbax_restore

    def casting(path, wanted):
        return {name: leaf + 0 if name != "a" else leaf * 0 for name, leaf in original(path, wanted).items()}

    save(tmp_path, 1, {"a": jnp.ones(2), "b": jnp.ones(2)})
    monkeypatch.setattr(checkpoints, "_orbax_restore", casting)
    with pytest.raises(DamagedError, match="sha256 of the restored arrays"):
        restore(tmp_path, {"a": jnp.ones(2), "b": jnp.ones(2)})


def test_damaged_newest_falls_back_with_a_warning_and_is_replaced(tmp_path, caplog):
    for number in (1, 2, 3):
        save(tmp_path, number, small_state(number), keep=3)
    for number in (2, 3):
        damage(tmp_path / f"step-0000000{number}" / "state" / "manifest.ocdbt", random.Random(number))
    with pytest.raises(DamagedError, match=r"step-00000003/state/manifest\.ocdbt"):
        restore(tmp_path, small_state(), step=3)
    restored, step, _ = restore(tmp_path, small_state())
    assert step == 1 and same_bits(restored, small_state(1))
    assert caplog.text.count("damaged checkpoint passed over, continuing from step 1") == 2
    save(tmp_path, 2, small_state(2))  # the run goes on; what lay beyond is of no use any more
    assert steps(tmp_path) == [1, 2]
    assert restore(tmp_path, small_state())[1] == 2


def test_only_damaged_ones_left(tmp_path):
    for number in (1, 2):
        damage(save(tmp_path, number, small_state()) / "manifest.json", random.Random(number))
    with pytest.raises(DamagedError, match=r"every checkpoint is damaged; the newest: .*step-00000002"):
        restore(tmp_path, small_state())


def test_a_reader_beside_a_run_follows_it_to_a_newer_step(tmp_path, monkeypatch):
    """The run saves two steps and removes the one that is just being read, in every phase of reading."""
    for phase in ("verify_folder", "_orbax_restore"):
        place, original, moved = tmp_path / phase, getattr(checkpoints, phase), []
        for number in (1, 2):
            save(place, number, small_state(number))

        def beside(*args, place=place, original=original, moved=moved, **kwargs):
            if not moved:
                moved.append(True)
                for number in (3, 4):
                    save(place, number, small_state(number))
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, phase, beside)
            restored, step, _ = restore(place, small_state())
        assert step == 4 and same_bits(restored, small_state(4)), phase
        with monkeypatch.context() as patch, pytest.raises(InputError, match=r"step: got 4, allowed: a saved step"):

            def removing(*args, place=place, original=original):
                shutil.rmtree(place / "step-00000004", ignore_errors=True)
                return original(*args)

            patch.setattr(checkpoints, phase, removing)
            restore(place, small_state(), step=4)


def test_damage_of_a_step_that_is_still_there_is_damage(tmp_path, monkeypatch):
    save(tmp_path, 1, small_state())

    def failing(*_):
        raise DamagedError("cannot be read")

    monkeypatch.setattr(checkpoints, "_orbax_restore", failing)
    with pytest.raises(DamagedError, match="cannot be read"):
        restore(tmp_path, small_state())


def test_the_owner_of_a_step_is_compared(tmp_path):
    save(tmp_path, 1, small_state(), {"run": "a", "seed": 0, "more": 1})
    assert restore(tmp_path, small_state(), owner={"run": "a", "seed": 0})[2]["more"] == 1
    for owner in ({"run": "b"}, {"run": "a", "seed": 1}, {"other": None, "run": 1}):
        with pytest.raises(DamagedError, match=r"step-00000001: is a checkpoint of another run: .* expected .*, found"):
            restore(tmp_path, small_state(), owner=owner)
