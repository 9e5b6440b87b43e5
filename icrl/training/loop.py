"""``train``: the one training loop. Metrics, checkpoints, progress, and a stop that loses nothing.

What is trained, and on what, is a ``Learner``'s: supervised (``fit``) or reinforced (``ppo``). The state after step s
is a function of the settings and the seed alone, and a checkpoint holds all of it. A killed and resumed run therefore
ends in the same bits as one that was left alone (same versions, same machine kind, same device count).
"""

import abc
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import IcrlError, require
from icrl.core.forks import refuse_after_fork
from icrl.core.precision import in_32_bits
from icrl.core.processes import agree, ask_to_stop, asked_to_stop
from icrl.core.progress import Progress
from icrl.core.types import Array
from icrl.models._token_policy import Policy
from icrl.storage import checkpoints
from icrl.storage.leaves import digest_of_leaves, named_leaves
from icrl.storage.metrics_log import (
    NO_ROWS,
    OF_MACHINE,
    TRAINING,
    Head,
    append_jsonl,
    head_of,
    last_step,
    read_jsonl,
    require_rows,
    truncate_jsonl,
)
from icrl.storage.paths import show
from icrl.storage.run_folder import identity_of
from icrl.storage.typed import conform
from icrl.training.gradients import on_one_device
from icrl.training.step import FitSettings, TrainState

_log = logging.getLogger("icrl")


class Diverged(IcrlError):
    """The loss or a parameter is not finite any more."""


class Interrupted(IcrlError):
    """Stopped by a signal after saving; ``exit_code`` is 128 + the signal's number."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a flag; a second one acts as it would have without us."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._remember)
            except ValueError:  # not the main thread: signals stay with whoever owns it
                return self
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._previous[number])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class Work(NamedTuple):
    """What one step of training is made of; 0 where it is not known."""

    tokens: int = 0  # of the sequences of a batch
    env_steps: int = 0  # steps of environments that make its data


UNKNOWN = Work()
Told = Mapping[str, Array | float]  # what one step alone tells


class Listener(Protocol):
    """Hears of the rows of metrics of one model as they are logged."""

    def begins(self, rows: Sequence[dict[str, Any]], /) -> None:
        """Training begins, or goes on, behind these rows of the record."""

    def logged(self, row: dict[str, Any], /) -> None:
        """One row more is in the record."""


class Learner(abc.ABC):
    """What is trained: the state of step 0, one step more, and what is to be told of it."""

    settings: FitSettings
    template: Policy  # with its initial parameters
    work: Work = UNKNOWN

    @abc.abstractmethod
    def initial_state(self) -> TrainState:
        """The state of step 0."""

    def batch(self, number: int) -> Any:
        """What step ``number``, from 1, is computed of besides the state; nothing where a policy makes its own data."""
        del number
        return ()

    @abc.abstractmethod
    def step(self, state: TrainState, number: int) -> tuple[TrainState, Told]:
        """The state after step ``number``, from 1, and what is told of it alone; ``state`` is given away."""

    def report(self, state: TrainState, window: np.ndarray) -> dict[str, float]:
        """What a row of metrics says besides the loss and the learning rate.

        Args:
          state: that training has reached.
          window: the slots of records [log_every] of steps since the last row, in the order of the steps.
        """
        del state, window
        return {}

    def policy(self, state: TrainState) -> Policy:
        """The policy that training has reached."""
        params, slow = on_one_device((state.params, state.slow))
        return Policy(params=params, slow=slow, structure=self.template.structure)


def train(learner: Learner, folder: Path, seed: int = 0, listeners: Sequence[Listener] = ()) -> Policy:
    """Train a policy and return it, continuing from the newest checkpoint in ``folder`` if there is one.

    Args:
      learner: what is trained; its initial state is also the template that a checkpoint must match.
      folder: the run's folder; checkpoints go to ``checkpoints/seed-N``, rows to ``metrics.jsonl``.
      seed: training seed, names the rows and the checkpoint folder.
      listeners: hear of every row; what one of them raises ends the training.

    Raises:
      Interrupted: after a signal; the current step has been saved.
      Diverged: on a loss or parameter that is not finite, naming the step; no such checkpoint is written.
      DamagedError, InputError: the checkpoints in ``folder`` are damaged, of another run or of another model, or
        ``metrics.jsonl`` has not all rows that were written before the checkpoint.
    """
    refuse_after_fork()
    settings, saves, metrics = learner.settings, saves_of(folder, seed), folder / "metrics.jsonl"
    owner = {"seed": seed, **identity_of(folder)}
    state, head = _common_state(learner, saves, owner)
    done = int(state.step)
    require_rows(metrics, seed, done, head)
    truncate_jsonl(metrics, lambda row: row["seed"] != seed or row["step"] <= done)
    if listeners:
        rows = read_jsonl(metrics, TRAINING) if os.path.lexists(metrics) else []
        for listener in listeners:
            listener.begins([row for row in rows if row["seed"] == seed])
    with StopRequest() as stop, Progress(f"training seed {seed}", settings.train_steps, "steps", done) as bar:
        for step in range(done + 1, settings.train_steps + 1):
            state, told = learner.step(state, step)
            last = step == settings.train_steps
            if settings.is_logged(step):
                row = {"seed": seed, **_metrics(learner, state, step, told)}
                bar.advance(step - bar.done, f"loss {row['loss']:.4f}")
                row |= _of_machine(learner.work, bar.rate)
                append_jsonl(metrics, [row])
                head = head_of([row], head)
                for listener in listeners:
                    listener.logged(dict(row))
            asked = stop.number or asked_to_stop()
            if last or asked is not None or step % settings.save_every == 0:
                _save(saves, state, step, {**owner, **head._asdict()})
            if asked is not None:
                message = f"stopped by {signal.Signals(asked).name} after step {step} of {settings.train_steps}"
                raise Interrupted(f"{message}; saved, continue with --resume", asked)
    return learner.policy(state)


def follow(learner: Learner, folder: Path, seed: int) -> None:
    """Compute this process's share of what ``train`` does with the same learner in process 0; nothing is written.

    A signal is handed on to process 0, which saves and then stops everybody.
    """
    state = _common_state(learner, saves_of(folder, seed), {"seed": seed, **identity_of(folder)})[0]
    with StopRequest() as stop:
        for step in range(int(state.step) + 1, learner.settings.train_steps + 1):
            state, _ = learner.step(state, step)
            if stop.number is not None:
                ask_to_stop(stop.number)


def restore(learner: Learner, folder: Path, seed: int) -> Policy:
    """The policy at the newest intact checkpoint of training seed ``seed`` in ``folder``.

    Raises:
      InputError: there is no checkpoint, or it is of another model. DamagedError: none is intact, it is of another
        run, or the record of metrics, if there is one, has not all rows that were written before it.
    """
    saves, metrics = saves_of(folder, seed), folder / "metrics.jsonl"
    require(bool(checkpoints.steps(saves)), "checkpoint", str(saves), "a folder with a checkpoint", "run it first")
    state, head = _newest_state(learner, saves, {"seed": seed, **identity_of(folder)})
    if os.path.lexists(metrics):  # who acts with a model that was handed on has none
        require_rows(metrics, seed, int(state.step), head)
    if (reached := last_step(metrics, seed)) > int(state.step):
        _log.warning("%s: its newest checkpoint is of step %d of %d", show(saves), int(state.step), reached)
    return learner.policy(state)


def saves_of(folder: Path, seed: int) -> Path:
    """Where the checkpoints of training seed ``seed`` are."""
    return folder / "checkpoints" / f"seed-{seed}"


def _common_state(learner: Learner, saves: Path, owner: dict[str, Any]) -> tuple[TrainState, Head]:
    """``_newest_state``, which is the same in all processes, as are the data of the next step."""
    state, head = _newest_state(learner, saves, owner)
    following = min(int(state.step) + 1, learner.settings.train_steps)

    def shared() -> str:
        return digest_of_leaves(named_leaves((state, learner.batch(following))))

    agree(f"state and batch of model {owner['seed']} at step {following}", shared)
    return state, head


def _newest_state(learner: Learner, saves: Path, owner: dict[str, Any]) -> tuple[TrainState, Head]:
    """The state of the newest checkpoint in ``saves``, or that of step 0, and the head of the rows before it."""
    state = learner.initial_state()
    if not checkpoints.steps(saves):
        return state, NO_ROWS
    state, _, meta = checkpoints.restore(saves, state, owner=owner)
    conform(meta, {"rows": int, "crc": str}, f"{show(saves)}: meta of the checkpoint")
    return state, Head(meta["rows"], meta["crc"])


@in_32_bits
def _metrics(learner: Learner, state: TrainState, step: int, told: Told) -> dict[str, Any]:
    """What ``metrics.jsonl`` says of ``step``: means since the last row, the learning rate, the learner's report."""
    window = np.arange((step - 1) % learner.settings.log_every + 1)
    loss = float(np.mean(_finite_losses(state, step)[window]))
    rate = float(learner.settings.learning_rate_at()(step - 1))
    said = {name: float(value) for name, value in {**learner.report(state, window), **told}.items()}
    return {"step": step, "loss": loss, "learning_rate": rate, **said}


def _of_machine(work: Work, rate: float) -> dict[str, float]:
    """What a row says of the machine at so many steps a second: the fields of ``OF_MACHINE`` that are known."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    on_device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**20
    values = (rate, rate * work.tokens, rate * work.env_steps, peak, on_device)
    return {name: value for name, value in zip(OF_MACHINE, values, strict=True) if value}


def _finite_losses(state: TrainState, step: int) -> np.ndarray:
    """The recent losses [log_every] as float64, or ``Diverged`` naming the step of one that is not finite."""
    losses = np.array(state.recent, np.float64)
    if np.isfinite(losses).all():
        return losses
    slot = int(np.argmin(np.isfinite(losses)))
    bad = step - (step - 1 - slot) % len(losses)
    hint = "lower learning_rate or check the data; the last checkpoint is untouched"
    raise Diverged(f"loss: got {losses[slot]} at step {bad}, allowed: a finite number; {hint}")


def _save(saves: Path, state: TrainState, step: int, meta: dict[str, Any]) -> None:
    """Publish a checkpoint of a state that is finite in every leaf."""
    state = on_one_device(state)
    _finite_losses(state, step)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        if not bool(jnp.isfinite(leaf).all()):
            raise Diverged(f"parameter {jax.tree_util.keystr(path)}: not finite at step {step}; not saved")
    checkpoints.save(saves, step, state, meta)
