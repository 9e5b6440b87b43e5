"""Families of tasks of one decision a step whose outcomes are to be predicted: sequences of examples (x_k, y_k).

A task is a law of examples, drawn from the family's prior; whoever reads a sequence learns the task as it goes. Two
Bayesian predictors frame what a model that was trained on a pool of tasks may do: the one that knows the pool and
nothing else (it memorises), and the one that knows the prior (it generalises). Both are exact.

``BallsAndUrns`` is an environment as well. ``LinearRegression``, whose decisions are real numbers, is not one.
"""

import abc
from typing import Any, ClassVar, NamedTuple

from icrl.core.fields import Checked
from icrl.core.types import Array


class Examples(NamedTuple):
    """One sequence of K examples."""

    x: Array  # [K, ...] float32, seen before the outcome is predicted
    y: Array  # [K], the outcome: float32, or an int32 in 0 .. V - 1


class ExampleFamily(Checked, abc.ABC):
    """A prior over tasks, how a sequence is drawn in one, and how a sequence model reads and predicts it.

    Subclasses are frozen dataclasses, which makes them static arguments of ``jit``. A prediction is what all predictors
    give for each outcome: a number, or probabilities; [K, ...].
    """

    loss_in_words: ClassVar[str]  # unit of ``losses``
    distance_in_words: ClassVar[str]  # unit of ``distance``

    @property
    @abc.abstractmethod
    def num_examples(self) -> int:
        """K."""

    @property
    @abc.abstractmethod
    def token_dim(self) -> int:
        """Features of a token."""

    @property
    @abc.abstractmethod
    def num_tokens(self) -> int:
        """L, tokens of a sequence."""

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """Numbers that a model puts out for a prediction."""

    @abc.abstractmethod
    def sample_task(self, key: Array) -> Any:
        """Draw one task from the prior."""

    @abc.abstractmethod
    def draw(self, key: Array, params: Any) -> Examples:
        """Draw one sequence of the task ``params``; ``key`` is consumed."""

    @abc.abstractmethod
    def tokens(self, examples: Examples) -> Array:
        """What a model reads of one sequence, [L, token_dim] float32."""

    @abc.abstractmethod
    def decisions(self) -> Array:
        """The tokens whose outputs predict y_1 .. y_K, places [K] int32; no token before them tells that outcome."""

    @abc.abstractmethod
    def predict(self, outputs: Array) -> Array:
        """Predictions for a model's ``outputs`` [K, num_outputs] at the decisions."""

    @abc.abstractmethod
    def scores(self, outputs: Array, y: Array) -> Array:
        """``losses`` of the predictions of ``outputs`` [K, num_outputs] in a form to be trained on, [K] float32."""

    @abc.abstractmethod
    def losses(self, prediction: Array, y: Array) -> Array:
        """What each prediction costs when the outcomes are ``y`` [K], [K] float32."""

    @abc.abstractmethod
    def distance(self, one: Array, other: Array) -> Array:
        """How far predictions are from others, symmetric, 0 for equal ones, [K] float32."""

    @abc.abstractmethod
    def memorising(self, pool: Any, examples: Examples) -> Array:
        """Predictions of the posterior under the uniform prior over ``pool``, tasks stacked [M, ...]."""

    @abc.abstractmethod
    def generalising(self, examples: Examples) -> Array:
        """Predictions of the posterior under the family's prior."""
