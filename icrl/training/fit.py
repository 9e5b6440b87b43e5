"""Supervised pretraining: a policy, an objective, and batches that are a function of the step."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from icrl.core.model_types import Supervised
from icrl.core.precision import in_32_bits
from icrl.core.types import Array
from icrl.models._token_policy import Policy
from icrl.training.gradients import gradient_norm, gradient_sums, placed
from icrl.training.loop import UNKNOWN, Learner, Told, Work, train
from icrl.training.step import FitSettings, TrainState, initial_state, updated


@dataclasses.dataclass(frozen=True, eq=False)
class Fit(Learner):
    """A policy that learns to predict.

    Args:
      settings: how to optimise.
      template: initial parameters.
      objective: has the loss of a batch.
      batches: step, from 0 -> batch, a pytree with leading axis [batch_size]; None, as ``key``: it is only restored.
      key: typed key of all that is random in the objective.
      held_out: a batch whose loss is the validation loss of every row, with its routers' statistics if it has any.
      work: what a step is made of.
    """

    settings: FitSettings
    template: Policy
    objective: Supervised
    batches: Callable[[int], Any] | None = None
    key: Array | None = None
    held_out: Any = None
    work: Work = UNKNOWN

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", self.settings.resolved(self.template))

    def initial_state(self) -> TrainState:
        return initial_state(self.settings, self.template)

    def batch(self, number: int) -> Any:
        assert self.batches is not None
        return self.batches(number - 1)

    def step(self, state: TrainState, number: int) -> tuple[TrainState, Told]:
        assert self.key is not None
        batch, structure = self.batch(number), self.template.structure
        state = placed(state, self.settings)
        sums = gradient_sums(self.settings, self.objective, structure, state, batch, self.key)
        told = {"gradient_norm": gradient_norm(self.settings, sums)} if self.settings.is_logged(number) else {}
        return updated(self.settings, structure, state, sums), told

    def report(self, state: TrainState, window: np.ndarray) -> dict[str, float]:
        del window
        if self.held_out is None:
            return {}
        said = _report(self.objective, self.policy(state), self.held_out)
        return {name: float(value) for name, value in said.items()}


def fit(
    settings: FitSettings,
    policy: Policy,
    objective: Supervised,
    batches: Callable[[int], Any],
    folder: Path,
    *,
    key: Array,
    seed: int = 0,
    held_out: Any = None,
) -> Policy:
    """Pretrain ``policy`` and return it: ``train`` of a ``Fit``."""
    return train(Fit(settings, policy, objective, batches, key, held_out), folder, seed)


@partial(jax.jit, static_argnames=("objective",))
@in_32_bits
def _report(objective: Supervised, policy: Policy, batch: Any) -> dict[str, Array]:
    """The objective's report of a batch, [] float32 each."""
    return objective.report(policy, batch)
