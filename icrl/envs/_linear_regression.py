"""Noisy linear regression in context (Garg et al. 2022; Raventos et al. 2023), a family of examples.

Its decisions are real numbers, so it is no environment with numbered actions: ``icrl run task-diversity`` takes it.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.threefry import normal, split
from icrl.core.types import Array, TaskParams
from icrl.envs._examples import ExampleFamily, Examples
from icrl.planning.predictors import dmmse, ridge


@struct.dataclass
class LinearRegressionTask(TaskParams):
    """The weights."""

    w: Array = struct.field(default_factory=lambda: jnp.zeros(8, jnp.float32))  # [D] float32


@dataclasses.dataclass(frozen=True)
class LinearRegression(ExampleFamily):
    """y = w x + noise with w ~ N(0, I), x ~ N(0, I) and Gaussian noise; the defaults are Raventos et al. 2023's.

    A model reads x_1, y_1, x_2, ..., x_K in turn, numbers of either kind in slots of their own, and predicts y_k at
    x_k. Losses and distances are squared and over D, so that 1 is about what predicting 0 costs.
    """

    loss_in_words: ClassVar[str] = "squared error / D"
    distance_in_words: ClassVar[str] = "squared difference / D"

    dim: int = setting(8, low=1, high=4096, help="D, features of an example")
    horizon: int = setting(16, low=1, high=2**16, help="K, examples in a sequence")
    noise_std: float = setting(0.5, low=0.01, high=1000.0, help="standard deviation of the outcomes' noise")

    @property
    def num_examples(self) -> int:
        return self.horizon

    @property
    def token_dim(self) -> int:
        return self.dim + 1

    @property
    def num_tokens(self) -> int:
        return 2 * self.horizon - 1  # the last outcome is for nobody to read

    @property
    def num_outputs(self) -> int:
        return 1

    def sample_task(self, key: Array) -> LinearRegressionTask:
        return LinearRegressionTask(w=normal(key, (self.dim,)), max_steps_in_episode=self.horizon)

    def draw(self, key: Array, params: LinearRegressionTask) -> Examples:
        key_x, key_noise = split(key)
        x = normal(key_x, (self.horizon, self.dim))
        return Examples(x, x @ params.w + self.noise_std * normal(key_noise, (self.horizon,)))

    def tokens(self, examples: Examples) -> Array:
        inputs = jnp.pad(examples.x, ((0, 0), (1, 0)))
        outcomes = jnp.pad(examples.y[:, None], ((0, 0), (0, self.dim)))
        return jnp.stack([inputs, outcomes], axis=1).reshape(-1, self.token_dim)[:-1]

    def decisions(self) -> Array:
        return 2 * jnp.arange(self.horizon)

    def predict(self, outputs: Array) -> Array:
        return outputs[:, 0]

    def scores(self, outputs: Array, y: Array) -> Array:
        return self.losses(self.predict(outputs), y)

    def losses(self, prediction: Array, y: Array) -> Array:
        return jnp.square(prediction - y) / self.dim

    def distance(self, one: Array, other: Array) -> Array:
        return jnp.square(one - other) / self.dim

    def memorising(self, pool: LinearRegressionTask, examples: Examples) -> Array:
        return dmmse(*examples, pool.w, self.noise_std**2)

    def generalising(self, examples: Examples) -> Array:
        return ridge(*examples, self.noise_std**2)
