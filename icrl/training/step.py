"""One step of pretraining: its settings, its state, and ``train_step``, a function of both, a batch and a key."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax

from icrl.core.errors import require
from icrl.core.fields import Checked, setting
from icrl.core.model_types import Supervised
from icrl.core.precision import in_32_bits
from icrl.core.types import Array
from icrl.models._token_policy import Policy, Structure
from icrl.models.layers.moe import MoEConfig
from icrl.training.gradients import gradient_sums
from icrl.training.placement import cut_as_set, kept_in_place, placed
from icrl.training.seeds import by_seed

SCHEDULES = ("cosine", "constant")
CPU_MICRO_BATCH = 4  # sequences whose activations stay in a core's cache; an accelerator takes the whole batch
CPU_GROUPS = 2  # parts of a batch side by side on a CPU; a constant, so that the number of cores changes no bit


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
    gradient_groups: int | None = setting(
        None,
        low=1,
        high="batch_size",
        help="G, parts of a batch whose gradients are summed apart, then in order: the same bits on any number of "
        "devices that divides it; none: 2 on a CPU, else one a device",
    )
    shard_parameters: bool = setting(
        False,
        help="cut parameters and both moments of AdamW over the devices that share the gradient groups: less memory on "
        "each, the same bits",
    )
    seeds_together: int = setting(
        1,
        low=1,
        high=1000,
        help="training seeds of a variant that step in one program; for GPUs: a CPU is slower at it than one by one",
    )
    log_every: int = setting(50, low=1, high=2**31 - 1, help="steps between rows of metrics.jsonl")
    save_every: int = setting(500, low=1, high=2**31 - 1, help="steps between checkpoints")

    def __post_init__(self) -> None:
        super().__post_init__()
        groups = self.gradient_groups or 1
        nearest = max(1, round(self.batch_size / groups)) * groups
        divided = self.batch_size % groups == 0
        require(divided, "batch_size", self.batch_size, f"a multiple of {groups} gradient groups, as {nearest}")
        hint = "the devices that share the groups share the parameters"
        alone = self.shard_parameters and self.gradient_groups == 1
        require(not alone, "gradient_groups", 1, "2 or more with shard_parameters", hint)
        if self.micro_batch is not None:
            part = self.batch_size // groups
            require(part % self.micro_batch == 0, "micro_batch", self.micro_batch, f"a divisor of {part}, one group")

    def check_together(self, together: int) -> None:
        """Raise ``InputError`` unless batch, micro-batch and groups hold whole sets of ``together`` sequences."""
        allowed = f"whole multiples of {together} sequences: the experts' loss compares those of one task"
        group = self.gradient_groups and self.batch_size // self.gradient_groups
        sizes = {"batch_size": self.batch_size, "micro_batch": self.micro_batch, "gradient_groups": group}
        for name, size in sizes.items():
            require((size or 0) % together == 0, name, getattr(self, name), allowed)

    def check_seeds(self, train_seeds: int) -> None:
        """Raise ``InputError`` unless a variant has as many training seeds as are to be trained together."""
        together = self.seeds_together
        require(together <= train_seeds, "seeds_together", together, f"at most {train_seeds}, the train_seeds")

    def check_sharding(self, backbone: Any) -> None:
        """Raise ``InputError`` for parameters to be cut over devices where a model's whole batch is on one of them."""
        mixture = getattr(backbone, "mixture", MoEConfig())
        fits = not (self.shard_parameters and mixture.branches) or self.gradient_groups is not None
        allowed, hint = "2 or more with shard_parameters", f"rows of a group meet in the losses of moe {mixture.moe}"
        require(fits, "gradient_groups", self.gradient_groups, allowed, hint)

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
        """With groups and a micro-batch that suit the platform and divide the batch; one of each if its rows must meet.

        Raises:
          InputError: a batch that the devices do not divide.
        """
        if self.gradient_groups is not None and self.micro_batch is not None:
            return self
        together = policy.needs_whole_batch
        groups = self.gradient_groups or self._fitting_groups(together)
        grouped = dataclasses.replace(self, gradient_groups=groups)
        if self.micro_batch is not None:
            return grouped
        part = self.batch_size // groups
        most = CPU_MICRO_BATCH if jax.default_backend() == "cpu" and not together else part
        micro = max(size for size in range(1, min(most, part) + 1) if part % size == 0)
        return dataclasses.replace(grouped, micro_batch=micro)

    def _fitting_groups(self, needs_whole_batch: bool) -> int:
        """G where it was left open."""
        if needs_whole_batch:
            return 1
        if jax.default_backend() != "cpu":
            return 1 if self.micro_batch == self.batch_size else jax.device_count()
        micro = self.micro_batch or max(size for size in range(1, CPU_MICRO_BATCH + 1) if self.batch_size % size == 0)
        return math.gcd(self.batch_size // micro, CPU_GROUPS)

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
    """The state of step 0; where parameters are to be cut, its moments are never whole anywhere."""
    settings = settings.resolved(policy)
    params, slow = jax.tree.map(jnp.array, (policy.params, policy.slow))  # a copy: the train step donates its input
    params, recent = cut_as_set(params, settings), jnp.zeros(settings.log_every, jnp.float32)
    state = TrainState(params, slow, settings.optimizer().init(params), jnp.int32(0), recent)
    return placed(state, settings) if settings.shard_parameters else state


def train_step(
    settings: FitSettings, objective: Supervised, structure: Structure, state: TrainState, batch: Any, key: Array
) -> TrainState:
    """The state after one more step; ``state`` is given away.

    The gradients of micro-batches are summed in a fixed order, see ``gradients.py``. ``key`` is the same for all steps:
    a step's own draws come from it and the number of the step. Models that differ in their training seed or data only
    share the compiled code; S of them take the step in one program where state, batch and key are stacked.
    """
    settings = settings.resolved(Policy(params=state.params, slow=state.slow, structure=structure))
    state = placed(state, settings)
    return updated(settings, structure, state, gradient_sums(settings, objective, structure, state, batch, key))


@partial(jax.jit, static_argnames=("settings", "structure"), donate_argnames=("state",))
@in_32_bits
def updated(
    settings: FitSettings, structure: Structure, state: TrainState, sums: Sequence[tuple[Any, Any]]
) -> TrainState:
    """The state after a step with these ``gradient_sums``, one of each group of the batch."""

    def of_one(state: TrainState, sums: Sequence[tuple[Any, Any]]) -> TrainState:
        policy = Policy(params=state.params, slow=state.slow, structure=structure)
        (value, seen), gradient = jax.tree.map(lambda *parts: functools.reduce(jnp.add, parts) / settings.pieces, *sums)
        updates, opt_state = settings.optimizer().update(gradient, state.opt_state, state.params)
        recent = state.recent.at[state.step % settings.log_every].set(value)
        params = optax.apply_updates(state.params, updates)
        slow = policy.replace(params=params).update_ema(seen).slow  # type: ignore[attr-defined]
        return TrainState(params, slow, opt_state, state.step + 1, recent)

    return kept_in_place(by_seed(of_one, state.step)(state, sums), settings)
