"""One step of pretraining: its settings, its state, and ``train_step``, a function of both, a batch and a key."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from icrl.core.devices import host_workers
from icrl.core.errors import require
from icrl.core.fields import Checked, setting
from icrl.core.model_types import Supervised
from icrl.core.precision import in_32_bits
from icrl.core.types import Array
from icrl.models._token_policy import Policy, Structure

SCHEDULES = ("cosine", "constant")
CPU_MICRO_BATCH = 4  # sequences whose activations stay in a core's cache; an accelerator takes the whole batch
CPU_SHARES = 2  # parts of a batch side by side on a CPU; a constant, so that the number of cores changes no bit


@dataclasses.dataclass(frozen=True)
class FitSettings(Checked):
    """How to optimise."""

    train_steps: int = setting(4000, low=1, high=2**31 - 1, help="optimiser steps")
    batch_size: int = setting(64, low=1, high=2**20, help="sequences a step")
    learning_rate: float = setting(1e-3, low=0.0, open_low=True, help="largest step size of AdamW")
    warmup_steps: int = setting(200, low=0, high=2**31 - 1, help="steps in which the learning rate rises from 0")
    schedule: str = setting(
        "cosine", choices=SCHEDULES, help="after the warm-up: a cosine to 0 at train_steps, or constant"
    )
    weight_decay: float = setting(1e-4, low=0.0, help="of AdamW, on all parameters")
    micro_batch: int | None = setting(
        None,
        low=1,
        high="batch_size",
        help="sequences per gradient evaluation; none: 4 on a CPU, or all if they have to meet",
    )
    log_every: int = setting(50, low=1, high=2**31 - 1, help="steps between rows of metrics.jsonl")
    save_every: int = setting(500, low=1, high=2**31 - 1, help="steps between checkpoints")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batch is not None:
            divides = self.batch_size % self.micro_batch == 0
            require(divides, "micro_batch", self.micro_batch, f"a divisor of batch_size {self.batch_size}")

    def learning_rate_at(self) -> optax.Schedule:
        """Step -> learning rate."""
        warmup = min(self.warmup_steps, self.train_steps // 2)
        if self.schedule == "constant":
            return optax.join_schedules(
                [optax.linear_schedule(0.0, self.learning_rate, warmup), optax.constant_schedule(self.learning_rate)],
                [warmup],
            )
        return optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, warmup, self.train_steps)

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW under the schedule."""
        return optax.adamw(self.learning_rate_at(), weight_decay=self.weight_decay)

    def resolved(self, policy: Policy) -> Self:
        """With a micro-batch: one that suits the platform and divides the batch, or all of it if its rows must meet."""
        if self.micro_batch is not None:
            return self
        wanted = CPU_MICRO_BATCH if jax.default_backend() == "cpu" else self.batch_size
        if policy.needs_whole_batch:
            wanted = self.batch_size
        divisors = (size for size in range(1, min(wanted, self.batch_size) + 1) if self.batch_size % size == 0)
        return dataclasses.replace(self, micro_batch=max(divisors))

    def is_logged(self, step: int) -> bool:
        """Whether ``step``, from 1, has a row of metrics."""
        return step % self.log_every == 0 or step == self.train_steps

    @property
    def pieces(self) -> int:
        """Gradient evaluations a step; of resolved settings."""
        assert self.micro_batch is not None
        return self.batch_size // self.micro_batch


class TrainState(NamedTuple):
    """All that training carries from step to step, and all that a checkpoint holds."""

    params: Any
    slow: Any  # what follows some parameters slowly; {} in most models
    opt_state: Any
    step: Array  # [] int32, steps done
    recent: Array  # [log_every] float32, losses of the latest steps, that of step s at (s - 1) % log_every
    more: Any = ()  # what a learner that makes its own data carries besides


def initial_state(settings: FitSettings, policy: Policy) -> TrainState:
    """The state of step 0."""
    params, slow = jax.tree.map(jnp.array, (policy.params, policy.slow))  # a copy: the train step donates its input
    recent = jnp.zeros(settings.log_every, jnp.float32)
    return TrainState(params, slow, settings.optimizer().init(params), jnp.int32(0), recent)


def train_step(
    settings: FitSettings, objective: Supervised, structure: Structure, state: TrainState, batch: Any, key: Array
) -> TrainState:
    """The state after one more step; ``state`` is given away.

    The gradients of micro-batches are summed in a fixed order. On a CPU the batch goes in two shares to two threads, as
    most operations are too small for two cores; more and shorter calls would pay for fresh memory each time.

    ``key`` is the same for all steps: a step's own draws come from it and the number of the step. Models that differ
    in their training seed or data only share the compiled code.
    """
    settings = settings.resolved(Policy(params=state.params, slow=state.slow, structure=structure))
    return updated(settings, structure, state, gradient_sums(settings, objective, structure, state, batch, key))


def gradient_sums(
    settings: FitSettings, objective: Supervised, structure: Structure, state: TrainState, batch: Any, key: Array
) -> list[tuple[Any, Any]]:
    """Sums of (loss, what layers have seen) and gradient of each share of the batch; of resolved settings."""
    policy = Policy(params=state.params, slow=state.slow, structure=structure)
    shares = math.gcd(settings.pieces, CPU_SHARES) if jax.default_backend() == "cpu" else 1
    gradient = partial(_gradient, settings, objective, settings.pieces // shares, policy, state.step, batch, key)
    if shares == 1:
        return [gradient(0)]
    return list(_cores().map(partial(_waited_for, gradient), range(shares)))


def gradient_norm(settings: FitSettings, sums: Sequence[tuple[Any, Any]]) -> float:
    """Euclidean norm of the gradient of a step, from its ``gradient_sums``; on the host, as it is seldom asked."""
    parts = zip(*(jax.tree.leaves(gradient) for _, gradient in sums), strict=True)
    squares = (float(np.square(sum(np.asarray(each, np.float64) for each in leaf)).sum()) for leaf in parts)
    return math.sqrt(sum(squares)) / settings.pieces


def _waited_for(gradient: Callable[[int], Any], share: int) -> Any:
    """The thread stays with its share: JAX would put all that one thread starts into one queue."""
    return jax.block_until_ready(gradient(share))


@functools.cache
def _cores() -> ThreadPoolExecutor:
    """Threads for the shares, as long as the process lives; one core has one thread."""
    return ThreadPoolExecutor(min(host_workers(), CPU_SHARES), "gradient")


@partial(jax.jit, static_argnames=("settings", "objective", "pieces"))
@in_32_bits
def _gradient(
    settings: FitSettings,
    objective: Supervised,
    pieces: int,
    policy: Policy,
    step: Array,
    batch: Any,
    key: Array,
    share: Array | int,
) -> tuple[Any, Any]:
    """Sums of the lesson and its gradient over so many ``pieces`` of the batch, those of this ``share`` of them."""
    micro = settings.batch_size // settings.pieces
    keys = jax.random.split(jax.random.fold_in(key, step), settings.pieces)

    def lesson_of(params: Any, piece: Any, key_piece: Array) -> tuple[Array, Any]:
        return objective.lesson(policy.replace(params=params), piece, key_piece)  # type: ignore[attr-defined]

    learn = jax.value_and_grad(lesson_of, has_aux=True)

    def piece_of(number: Array) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, number * micro, micro), batch)

    def add_gradient(total: Any, number: Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, learn(policy.params, piece_of(number), keys[number])), None

    unseen: Any = ()
    if objective.tells_layers:
        form = jax.eval_shape(lesson_of, policy.params, piece_of(jnp.int32(0)), keys[0])[1]
        unseen = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), form)
    zero = (jnp.float32(0.0), unseen), jax.tree.map(jnp.zeros_like, policy.params)
    return jax.lax.scan(add_gradient, zero, share * pieces + jnp.arange(pieces))[0]


@partial(jax.jit, static_argnames=("settings", "structure"), donate_argnames=("state",))
@in_32_bits
def updated(
    settings: FitSettings, structure: Structure, state: TrainState, sums: Sequence[tuple[Any, Any]]
) -> TrainState:
    """The state after a step with these ``gradient_sums``, one of each share of the batch."""
    policy = Policy(params=state.params, slow=state.slow, structure=structure)
    (value, seen), gradient = jax.tree.map(lambda *parts: functools.reduce(jnp.add, parts) / settings.pieces, *sums)
    updates, opt_state = settings.optimizer().update(gradient, state.opt_state, state.params)
    recent = state.recent.at[state.step % settings.log_every].set(value)
    params = optax.apply_updates(state.params, updates)
    slow = policy.replace(params=params).update_ema(seen).slow  # type: ignore[attr-defined]
    return TrainState(params, slow, opt_state, state.step + 1, recent)
