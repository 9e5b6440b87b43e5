"""Rows of metrics that wait on an accelerator: nobody waits for the step just begun; what is written is the same."""

import dataclasses
import os
import signal
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.array import ArrayImpl

from icrl.core.settings import replaced
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.recipes.data import RunData
from icrl.storage import checkpoints
from icrl.storage.metrics_log import OF_MACHINE, read_jsonl
from icrl.storage.publish import verify_folder
from icrl.training import rows as module
from icrl.training.learner import Learner
from icrl.training.loop import train
from icrl.training.step import FitSettings, TrainState
from icrl.training.stopping import Diverged, Interrupted

SETTINGS = FitSettings(train_steps=8, batch_size=1, log_every=2, save_every=8, warmup_steps=0)


@partial(jax.jit, donate_argnums=0)
def stepped(state: TrainState, loss: jax.Array) -> TrainState:
    recent = state.recent.at[state.step % SETTINGS.log_every].set(loss)
    return state._replace(params=state.params + loss, step=state.step + 1, recent=recent)


@dataclasses.dataclass(eq=False)
class Counter(Learner):
    """Each step has its number as its loss; what is fetched and when is written down."""

    settings: FitSettings = SETTINGS
    poisoned: int = 0  # the step whose loss is not a number
    disturbed: Callable[[int], None] = id  # in front of the step of that number
    events: list[str] = dataclasses.field(default_factory=list)

    def initial_state(self):
        return TrainState(jnp.zeros(3), {}, {}, jnp.int32(0), jnp.zeros(self.settings.log_every))

    def step(self, state, number):
        self.disturbed(number)
        self.events.append(f"step {number}")
        loss = jnp.float32(np.nan if number == self.poisoned else number)
        return stepped(state, loss), {"gradient_norm": partial(self.looked, number)}

    def looked(self, number):
        self.events.append(f"row {number}")
        return 0.5 * number

    def report(self, state, window):
        return {"val_loss": state.params[0] * 2}

    def policy(self, state):
        return np.asarray(state.params)


@pytest.fixture
def as_on_an_accelerator(monkeypatch):
    """Rows may wait, and are never there before they have to be."""
    monkeypatch.setattr(module, "lag", lambda: 1)
    monkeypatch.setattr(module._Asked, "is_there", property(lambda self: False))


def outcome(folder):
    """Rows without what tells time, and the states of checkpoints."""
    rows = read_jsonl(folder / "metrics.jsonl")
    rows = [{key: value for key, value in row.items() if key not in (*OF_MACHINE, "crc")} for row in rows]
    return rows, {place.name: verify_folder(place)["state_sha256"] for place in folder.glob("checkpoints/*/step-*")}


def trained(folder, **fields):
    """What is written, and the order of what happened."""
    folder.mkdir(exist_ok=True)
    train(learner := Counter(**fields), folder)
    return outcome(folder), learner.events


def names(text):
    """``s`` a step, ``r`` the row of that step."""
    return [f"{'step' if word[0] == 's' else 'row'} {word[1:]}" for word in text.split()]


@pytest.fixture
def plain(tmp_path):
    """What is written where no row waits."""
    (rows, saves), events = trained(tmp_path / "plain")
    assert events == names("s1 s2 r2 s3 s4 r4 s5 s6 r6 s7 s8 r8")
    told = [(row["step"], row["loss"], row["val_loss"], row["gradient_norm"]) for row in rows]
    assert told == [(n, n - 0.5, n * (n + 1.0), 0.5 * n) for n in (2, 4, 6, 8)]
    assert list(saves) == ["step-00000008"]
    return rows, saves


def test_a_row_is_fetched_with_the_next_one_and_is_the_same(plain, as_on_an_accelerator, tmp_path):
    found, events = trained(tmp_path / "late")
    assert events == names("s1 s2 s3 s4 r2 s5 s6 r4 s7 s8 r6 r8")
    assert found == plain


def test_a_row_that_is_there_does_not_wait(plain, as_on_an_accelerator, monkeypatch, tmp_path):
    """Here when the device is one step behind."""
    count = [0]

    def is_there(asked):
        count[0] += 1
        return count[0] % 2 == 0

    monkeypatch.setattr(module._Asked, "is_there", property(is_there))
    found, events = trained(tmp_path / "late")
    assert events == names("s1 s2 s3 r2 s4 s5 r4 s6 s7 r6 s8 r8")
    assert found == plain


def test_numbers_are_there_when_they_are_computed():
    ready, told = jax.block_until_ready(jnp.float32(1.0)), {"norm": float, "rate": 1.0}
    assert module._Asked(1, [ready], [told]).is_there


def test_all_rows_in_front_of_a_save_are_written_before_it(as_on_an_accelerator, monkeypatch, tmp_path):
    save, learner = checkpoints.save, Counter(replaced(SETTINGS, {"save_every": 3}))
    monkeypatch.setattr(checkpoints, "save", lambda *args, **kw: learner.events.append("saved") or save(*args, **kw))
    train(learner, tmp_path)
    at = [number for number, event in enumerate(learner.events) if event == "saved"]
    assert [learner.events[:number].count("row 4") for number in at] == [0, 1, 1]
    assert learner.events[: at[0]] == names("s1 s2 s3 r2")
    heads = [verify_folder(place)["meta"]["rows"] for place in sorted(tmp_path.glob("checkpoints/*/step-*"))]
    assert heads == [3, 4]  # of steps 6 and 8


@pytest.mark.parametrize(("save_every", "last"), [(8, "step 6"), (5, "step 5")])
def test_a_loss_that_is_not_finite_stops_at_most_one_row_later(as_on_an_accelerator, save_every, last, tmp_path):
    learner = Counter(replaced(SETTINGS, {"save_every": save_every}), poisoned=3)
    with pytest.raises(Diverged, match="loss of seed 0: got nan at step 3"):
        train(learner, tmp_path)
    assert [event for event in learner.events if event.startswith("step")][-1] == last
    assert [row["step"] for row in outcome(tmp_path)[0]] == [2] and not outcome(tmp_path)[1]


def test_a_signal_writes_what_waits_and_saves(plain, as_on_an_accelerator, tmp_path):
    def signalled(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="after step 3 of 8; saved"):
        trained(tmp_path / "late", disturbed=signalled)
    assert [row["step"] for row in outcome(tmp_path / "late")[0]] == [2]
    (rows, saves), _ = trained(tmp_path / "late")
    assert rows == plain[0] and saves.items() > plain[1].items()


def test_a_row_that_waits_at_a_death_is_written_by_who_goes_on(plain, as_on_an_accelerator, tmp_path):
    def dies(number):
        assert number != 6, "dies"

    settings = replaced(SETTINGS, {"save_every": 3})
    with pytest.raises(AssertionError, match="dies"):
        trained(tmp_path / "late", settings=settings, disturbed=dies)
    assert [row["step"] for row in outcome(tmp_path / "late")[0]] == [2]
    (rows, _), events = trained(tmp_path / "late", settings=settings)
    assert events[0] == "step 4" and rows == plain[0]


def test_between_rows_and_saves_no_number_is_looked_at(monkeypatch, tmp_path):
    """All of a supervised step, whose data are generated as it goes."""
    sizes = {"width": 8, "num_layers": 1, "horizon": 4, "batch_size": 2, "micro_batch": 2, "gradient_groups": 1}
    recipe = replaced(DPTBandit.presets["smoke"], {**sizes, "train_steps": 7, "log_every": 3, "save_every": 5})
    data, looked, number = RunData(tmp_path, 0), set(), [0]
    learner = recipe.learner(0, 0, data.batches(recipe, 0), data.held_out(recipe, 0))

    class Numbered(type(learner)):
        def step(self, state, now):
            number[0] = now
            return super().step(state, now)

    def noted(look):
        def noting(array, *args, **kwargs):
            if isinstance(array, jax.Array):
                looked.add(number[0])
            return look(array, *args, **kwargs)

        return noting

    for place, name in ((np, "asarray"), (np, "array"), (jax, "block_until_ready"), (ArrayImpl, "block_until_ready")):
        monkeypatch.setattr(place, name, noted(getattr(place, name)))
    monkeypatch.setattr(ArrayImpl, "_value", property(noted(ArrayImpl._value.fget)))
    fields = {each.name: getattr(learner, each.name) for each in dataclasses.fields(learner)}
    train(Numbered(**fields), tmp_path)
    assert looked - {0} == {3, 5, 6, 7}
