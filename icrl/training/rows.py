"""Rows of metrics: asked for as their step is taken, fetched when the device has computed them.

A step on an accelerator is a call that returns at once, and to look at one of its numbers is to wait for it, with
nothing behind it under way. There a row is fetched as soon as its numbers are there, at the latest when the next one is
asked for, or when the state is saved: the device has the steps behind it to do meanwhile. It costs room for the G
gradients of the row's step. On a CPU the same cores compute both, and a row is fetched at once.
"""

import resource
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.precision import in_32_bits
from icrl.core.progress import Progress
from icrl.core.types import Array
from icrl.storage.metrics_log import OF_MACHINE, Head, append_jsonl, head_of
from icrl.training.learner import Later, Told, Trainee, Work
from icrl.training.placement import on_one_device
from icrl.training.step import TrainState
from icrl.training.stopping import Diverged


class Rows:
    """The rows of some trainees, one of each at every logged step, in their order.

    Args:
      trainees: whose learners tell, and whose listeners hear.
      metrics: the record.
      metas: what is saved beside the state of each, with the head of its rows so far.
      bar: shows how far the rows are.
    """

    def __init__(self, trainees: Sequence[Trainee], metrics: Path, metas: Sequence[dict[str, Any]], bar: Progress):
        self.metas = list(metas)
        self._trainees, self._metrics, self._bar = trainees, metrics, bar
        self._most = lag()
        self._asked: deque[_Asked] = deque()

    @in_32_bits
    def ask(self, states: Sequence[TrainState], step: int, told: Sequence[Told]) -> None:
        """Ask for the rows of ``step``, which ``told`` this and led to ``states``; they may then be given away."""
        window = window_of(self._trainees[0], step)
        rate = self._trainees[0].learner.settings.learning_rate_at()(step - 1)
        said: list[dict[str, Later]] = [
            {"learning_rate": rate, **trainee.learner.report(state, window), **own}
            for trainee, state, own in zip(self._trainees, states, told, strict=True)
        ]
        self._asked.append(_Asked(step, [jnp.array(on_one_device(state.recent)) for state in states], said))

    def write(self, all_of_them: bool = False) -> None:
        """Write the rows that are there or that cannot wait any longer.

        Raises:
          Diverged: a loss is not finite; what listeners raise.
        """
        while self._asked and (all_of_them or len(self._asked) > self._most or self._asked[0].is_there):
            self._write(self._asked.popleft())

    def _write(self, asked: "_Asked") -> None:
        rows, step = [], asked.step
        for trainee, recent, said in zip(self._trainees, asked.recent, asked.said, strict=True):
            loss = float(np.mean(finite_losses(recent, step, trainee.seed)[window_of(trainee, step)]))
            numbers = {name: fetched(value) for name, value in said.items()}
            rows.append({"seed": trainee.seed, "step": step, "loss": loss, **numbers})
        self._bar.advance(step - self._bar.done, f"loss {np.mean([row['loss'] for row in rows]):.4f}")
        works = [each.learner.work for each in self._trainees]
        rows = [row | _of_machine(work, self._bar.rate) for work, row in zip(works, rows, strict=True)]
        append_jsonl(self._metrics, rows)
        self.metas = [_behind(row, meta) for row, meta in zip(rows, self.metas, strict=True)]
        for trainee, row in zip(self._trainees, rows, strict=True):
            for listener in trainee.listeners:
                listener.logged(dict(row))


class _Asked(NamedTuple):
    """Rows that are not fetched yet, one of each trainee."""

    step: int
    recent: Sequence[Array]  # [log_every] float32 each, losses of the latest steps, which no step gives away
    said: Sequence[dict[str, Later]]

    @property
    def is_there(self) -> bool:
        """Whether nobody would wait for it; what is computed on the host is of the same step as the losses."""
        leaves = jax.tree.leaves((self.recent, self.said))
        return all(leaf.is_ready() for leaf in leaves if isinstance(leaf, jax.Array))  # type: ignore[attr-defined]


def lag() -> int:
    """Rows that may be asked for and not fetched."""
    return 0 if jax.default_backend() == "cpu" else 1


def fetched(value: Later) -> float:
    """A number that is told, on the host."""
    return float(value() if callable(value) else value)


def window_of(trainee: Trainee, step: int) -> np.ndarray:
    """The slots of records [log_every] of the steps since the row in front of that of ``step``."""
    return np.arange((step - 1) % trainee.learner.settings.log_every + 1)


def finite_losses(recent: Array, step: int, seed: int) -> np.ndarray:
    """The losses [log_every] of the latest steps as float64, or ``Diverged`` naming the step of one not finite."""
    losses = np.array(recent, np.float64)
    if np.isfinite(losses).all():
        return losses
    slot = int(np.argmin(np.isfinite(losses)))
    bad = step - (step - 1 - slot) % len(losses)
    hint = "lower learning_rate or check the data; the last checkpoint is untouched"
    raise Diverged(f"loss of seed {seed}: got {losses[slot]} at step {bad}, allowed: a finite number; {hint}")


def _behind(row: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """``meta`` with the head of the rows one row on."""
    return {**meta, **head_of([row], Head(meta["rows"], meta["crc"]))._asdict()}


def _of_machine(work: Work, rate: float) -> dict[str, float]:
    """What a row says of the machine at so many steps a second: the fields of ``OF_MACHINE`` that are known."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    on_device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**20
    values = (rate, rate * work.tokens, rate * work.env_steps, peak, on_device)
    return {name: value for name, value in zip(OF_MACHINE, values, strict=True) if value}
