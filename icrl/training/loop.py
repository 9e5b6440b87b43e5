"""``train``: the one training loop. Metrics, checkpoints, progress, and a stop that loses nothing.

What is trained, and on what, is a ``Learner``'s: supervised (``fit``) or reinforced (``ppo``). The state after step s
is a function of the settings and the seed alone, and a checkpoint holds all of it. A killed and resumed run therefore
ends in the same bits as one that was left alone (same versions, same machine kind, same device count).

Between rows and saves nothing here looks at a number that a step computes: an accelerator is never waited for.
"""

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from icrl.core.errors import require
from icrl.core.forks import refuse_after_fork
from icrl.core.processes import agree, ask_to_stop, asked_to_stop
from icrl.core.progress import Progress
from icrl.models._token_policy import Policy
from icrl.storage import checkpoints
from icrl.storage.leaves import digest_of_leaves, named_leaves
from icrl.storage.metrics_log import (
    NO_ROWS,
    TRAINING,
    Head,
    last_step,
    read_jsonl,
    require_rows,
    truncate_jsonl,
)
from icrl.storage.paths import show
from icrl.storage.run_folder import identity_of
from icrl.storage.typed import conform
from icrl.training.learner import Learner, Listener, Step, Told, Trainee
from icrl.training.placement import once
from icrl.training.rows import Rows, finite_losses
from icrl.training.seeds import stacked, unstacked
from icrl.training.step import TrainState
from icrl.training.stopping import Diverged, Interrupted, StopRequest

_log = logging.getLogger("icrl")


def train(learner: Learner, folder: Path, seed: int = 0, listeners: Sequence[Listener] = ()) -> Policy:
    """Train a policy and return it, continuing from the newest checkpoint in ``folder``: ``train_together`` of one."""
    return train_together([Trainee(learner, seed, listeners)], folder)[0]


def train_together(trainees: Sequence[Trainee], folder: Path) -> list[Policy]:
    """Train policies and return them, continuing from the newest checkpoint that all of them have in ``folder``.

    Several take each step in one program. Each has rows and checkpoints of its own, as if it were trained alone.

    Args:
      trainees: what is trained; the initial state of each is also the template that a checkpoint must match.
      folder: the run's folder; checkpoints go to ``checkpoints/seed-N``, rows to ``metrics.jsonl``.

    Raises:
      Interrupted: after a signal; the current step has been saved.
      Diverged: on a loss or parameter that is not finite, naming seed and step; no checkpoint of that step is written.
      DamagedError, InputError: the checkpoints in ``folder`` are damaged, of another run or of another model, or
        ``metrics.jsonl`` has not all rows that were written before the checkpoint; learners that cannot go together.
    """
    refuse_after_fork()
    learners, metrics = [each.learner for each in trainees], folder / "metrics.jsonl"
    settings, take_step = learners[0].settings, _step_of(learners)
    states, metas = _begun(trainees, folder)
    for trainee, state in zip(trainees, states, strict=True):
        _agree_on(trainee.learner, state, trainee.seed)
    state, done = stacked(states), int(states[0].step)
    del states  # a step gives away what it is given
    with StopRequest() as stop, Progress(_label(trainees), settings.train_steps, "steps", done) as bar:
        rows = Rows(trainees, metrics, metas, bar)
        for step in range(done + 1, settings.train_steps + 1):
            state, told = take_step(state, step)
            if settings.is_logged(step):
                rows.ask(unstacked(state, len(trainees)), step, told)
            rows.write()
            stopped, last = stop.number or asked_to_stop(), step == settings.train_steps
            if last or stopped is not None or step % settings.save_every == 0:
                rows.write(all_of_them=True)
                _save(trainees, folder, unstacked(state, len(trainees)), step, rows.metas)
            if stopped is not None:
                message = f"stopped by {signal.Signals(stopped).name} after step {step} of {settings.train_steps}"
                raise Interrupted(f"{message}; saved, continue with --resume", stopped)
    reached = zip(learners, unstacked(state, len(trainees)), strict=True)
    return [learner.policy(each) for learner, each in reached]


def _step_of(learners: Sequence[Learner]) -> Step:
    """The step of one learner, or of several at once."""
    if len(learners) > 1:
        return type(learners[0]).side_by_side(learners)

    def alone(state: TrainState, number: int) -> tuple[TrainState, list[Told]]:
        state, told = learners[0].step(state, number)
        return state, [told]

    return alone


def _label(trainees: Sequence[Trainee]) -> str:
    """What is trained, in words."""
    if len(trainees) == 1:
        return f"training seed {trainees[0].seed}"
    return f"training seeds {trainees[0].seed}-{trainees[-1].seed}"


def follow(learner: Learner, folder: Path, seed: int) -> None:
    """Compute this process's share of what ``train`` does with the same learner in process 0; nothing is written.

    A signal is handed on to process 0, which saves and then stops everybody.
    """
    state, _ = _newest_state(learner, saves_of(folder, seed), {"seed": seed, **identity_of(folder)})
    _agree_on(learner, state, seed)
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


def _begun(trainees: Sequence[Trainee], folder: Path) -> tuple[list[TrainState], list[dict[str, Any]]]:
    """States of one step from which all go on, and what is saved beside them: the owner, and the head of the rows.

    What lies behind that step is removed.
    """
    metrics, states, metas = folder / "metrics.jsonl", [], []
    places = [saves_of(folder, each.seed) for each in trainees]
    owners = [{"seed": each.seed, **identity_of(folder)} for each in trainees]
    step = checkpoints.newest_common(places) if len(places) > 1 else None  # of one, whichever is intact
    for trainee, saves, owner in zip(trainees, places, owners, strict=True):
        state, head = _newest_state(trainee.learner, saves, owner, step)
        require_rows(metrics, trainee.seed, int(state.step), head)
        states.append(state)
        metas.append({**owner, **head._asdict()})
    if step is not None:
        for saves, owner in zip(places, owners, strict=True):
            checkpoints.discard_after(saves, step, owner)
    done, own = int(states[0].step), {each.seed for each in trainees}
    truncate_jsonl(metrics, lambda row: row["seed"] not in own or row["step"] <= done)
    _begin_listeners(trainees, metrics)
    return states, metas


def _begin_listeners(trainees: Sequence[Trainee], metrics: Path) -> None:
    if any(each.listeners for each in trainees):
        rows = read_jsonl(metrics, TRAINING) if os.path.lexists(metrics) else []
        for trainee in trainees:
            for listener in trainee.listeners:
                listener.begins([row for row in rows if row["seed"] == trainee.seed])


def _newest_state(
    learner: Learner, saves: Path, owner: dict[str, Any], step: int | None = None
) -> tuple[TrainState, Head]:
    """The state of ``step``, by default of the newest checkpoint in ``saves`` if there is one, and its rows' head."""
    state = learner.initial_state()
    if step == 0 or not checkpoints.steps(saves):
        return state, NO_ROWS
    state, _, meta = checkpoints.restore(saves, state, step, owner=owner)
    conform(meta, {"rows": int, "crc": str}, f"{show(saves)}: meta of the checkpoint")
    return state, Head(meta["rows"], meta["crc"])


def _agree_on(learner: Learner, state: TrainState, seed: int) -> None:
    """Make sure that all processes begin with the same state, and with the same data of its next step."""
    following = min(int(state.step) + 1, learner.settings.train_steps)

    def shared() -> str:
        return digest_of_leaves(named_leaves((state, learner.batch(following))))

    agree(f"state and batch of model {seed} at step {following}", shared)


def _save(
    trainees: Sequence[Trainee], folder: Path, states: Sequence[TrainState], step: int, metas: Sequence[dict[str, Any]]
) -> None:
    """Publish a checkpoint of each, when all of them are finite in every leaf.

    What is killed here leaves the newest step to some of them; one more is then kept for the step that all have.
    """
    states = once(states)
    for trainee, state in zip(trainees, states, strict=True):
        finite_losses(state.recent, step, trainee.seed)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
            if not bool(jnp.isfinite(leaf).all()):
                name = f"parameter {jax.tree_util.keystr(path)} of seed {trainee.seed}"
                raise Diverged(f"{name}: not finite at step {step}; not saved")
    keep = 2 if len(trainees) == 1 else 3
    for trainee, state, meta in zip(trainees, states, metas, strict=True):
        checkpoints.save(saves_of(folder, trainee.seed), step, state, meta, keep=keep)
