"""What the loop of training knows of what it trains, and who hears of it."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from icrl.core.errors import InputError
from icrl.core.types import Array
from icrl.models._token_policy import Policy
from icrl.training.placement import on_one_device
from icrl.training.step import FitSettings, TrainState


class Work(NamedTuple):
    """What one step of training is made of; 0 where it is not known."""

    tokens: int = 0  # of the sequences of a batch
    env_steps: int = 0  # steps of environments that make its data


UNKNOWN = Work()
Later = Array | float | Callable[[], float]  # a number, perhaps of the device, or what computes it on the host
Told = Mapping[str, Later]  # what one step alone tells
# (states of S learners, stacked, number of a step, from 1) -> the states after it, what it tells of each
Step = Callable[[TrainState, int], tuple[TrainState, list[Told]]]


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

    @classmethod
    def side_by_side(cls, learners: Sequence[Self]) -> Step:
        """``step`` of several learners at once; ``InputError`` for those that cannot."""
        raise InputError(f"seeds_together: got {len(learners)}, allowed: 1 with a {cls.__name__}")

    def report(self, state: TrainState, window: np.ndarray) -> Told:
        """What a row of metrics says besides the loss and the learning rate; fetched when ``state`` is given away.

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


class Trainee(NamedTuple):
    """One model in training."""

    learner: Learner
    seed: int = 0  # training seed, names its rows and the folder of its checkpoints
    listeners: Sequence[Listener] = ()  # hear of its rows; what one of them raises ends the training
