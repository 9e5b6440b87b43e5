"""Supervised pretraining: a policy, an objective, and batches that are a function of the step."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from icrl.core.errors import require
from icrl.core.model_types import Supervised
from icrl.core.precision import in_32_bits
from icrl.core.types import Array
from icrl.models._token_policy import Policy
from icrl.training.gradients import gradient_norm, gradient_sums
from icrl.training.learner import UNKNOWN, Learner, Step, Told, Work
from icrl.training.loop import train
from icrl.training.placement import cut_as_set, placed
from icrl.training.rows import lag
from icrl.training.seeds import batches_of, stacked, unstacked
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
        settings = self.settings.resolved(self.template)
        params = cut_as_set(self.template.params, settings)
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "template", self.template.replace(params=params))  # type: ignore[attr-defined]

    def initial_state(self) -> TrainState:
        return initial_state(self.settings, self.template)

    def batch(self, number: int) -> Any:
        assert self.batches is not None
        return self.batches(number - 1)

    def step(self, state: TrainState, number: int) -> tuple[TrainState, Told]:
        state, (told,) = _step_of([self])(state, number)
        return state, told

    @classmethod
    def side_by_side(cls, learners: Sequence[Self]) -> Step:
        first = learners[0]
        for each in learners:
            same = (each.settings, each.objective, each.template.structure)
            fits = same == (first.settings, first.objective, first.template.structure)
            require(fits, "seeds_together", len(learners), "training seeds of one model, with the same settings")
        return _step_of(learners)

    def report(self, state: TrainState, window: np.ndarray) -> Told:
        del window
        return {} if self.held_out is None else _report(self.objective, self.policy(state), self.held_out)


def _step_of(learners: Sequence[Fit]) -> Step:
    """A step of all ``learners``, alike but for their data, their key and their parameters."""
    settings, objective, structure = learners[0].settings, learners[0].objective, learners[0].template.structure
    key = stacked([each.key for each in learners])
    batches = batches_of([each.batches for each in learners if each.batches is not None])
    assert key is not None

    def step(state: TrainState, number: int) -> tuple[TrainState, list[Told]]:
        batch = batches(number - 1)
        state = placed(state, settings)
        sums = gradient_sums(settings, objective, structure, state, batch, key)
        told: list[Told] = [{}] * len(learners)
        if settings.is_logged(number):
            norms = [partial(gradient_norm, settings, own) for own in unstacked(sums, len(learners))]
            told = [{"gradient_norm": norm if lag() else norm()} for norm in norms]  # at once: the gradients go
        return updated(settings, structure, state, sums), told

    return step


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
