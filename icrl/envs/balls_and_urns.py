"""Balls and urns: guess the colour of the next ball (Wurgaft et al. 2025), an environment and a family of examples."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import Arms, Episode
from icrl.core.threefry import uniform
from icrl.core.types import Array, Environment, EnvSpec, TaskParams
from icrl.envs._bandit import MAX_ARMS, MAX_HORIZON, _select
from icrl.envs._examples import ExampleFamily, Examples
from icrl.planning.divergence import FLOOR, symmetrised_kl
from icrl.planning.predictors import dirichlet_mean, pool_mixture

SUM_CLOSE = 1e-4  # of the probabilities of an urn


@struct.dataclass
class UrnTask(TaskParams):
    """What is in the urn."""

    probs: Array = struct.field(default_factory=lambda: jnp.full(8, 1 / 8, jnp.float32))  # [V] float32, of a colour


@struct.dataclass
class UrnState:
    """Balls drawn so far in this episode, and the last of them."""

    time: Array  # [] int32
    ball: Array  # [] int32 in 0 .. V - 1; V: none yet


@environments.register("BallsAndUrns-v0", paper="Wurgaft et al. 2025")
@dataclasses.dataclass(frozen=True)
class BallsAndUrns(Environment[UrnTask], ExampleFamily):
    """Balls of V colours are drawn and put back, from an urn ~ Dirichlet(alpha); the action guesses the next one.

    Reward 1 if it was right. The observation [1] is the colour of the ball before, V before the first; it is seen
    whatever was guessed, so that there is nothing to explore. The ball of a step comes from its key alone: all guessers
    see the same balls. An episode has ``horizon`` draws and ends by time limit; the urn stays.

    As a family of examples: a model reads the ball before, one-hot, and predicts the probabilities of the next one.
    """

    loss_in_words: ClassVar[str] = "nats"
    distance_in_words: ClassVar[str] = "symmetrised KL, nats"

    num_colors: int = setting(8, low=1, high=MAX_ARMS, help="V, colours")
    horizon: int = setting(32, low=1, high=MAX_HORIZON, help="K, balls drawn in an episode")
    alpha: float = setting(1.0, low=0.01, high=1e6, help="of the Dirichlet prior of an urn, for each colour")

    @property
    def spec(self) -> EnvSpec:
        V = self.num_colors
        return EnvSpec(type(self).__name__, V, (1,), 0.0, float(V), self.horizon, obs_nvec=(V + 1,))

    def sample_task(self, key: Array) -> UrnTask:
        probs = jax.random.dirichlet(key, jnp.full(self.num_colors, self.alpha, jnp.float32))
        return UrnTask(probs=probs, max_steps_in_episode=self.horizon)

    # --- the environment ---

    def reset_env(self, key: Array, params: UrnTask) -> tuple[Array, UrnState]:
        del key, params
        state = UrnState(time=jnp.int32(0), ball=jnp.int32(self.num_colors))
        return self._observe(state), state

    def step_env(
        self, key: Array, state: UrnState, action: Array, params: UrnTask
    ) -> tuple[Array, UrnState, Array, Array, dict[str, Array]]:
        after = UrnState(time=state.time + 1, ball=_ball(uniform(key), params.probs))
        reward = (action == after.ball).astype(jnp.float32)
        return self._observe(after), after, reward, jnp.bool_(False), {}

    def is_truncated(self, state: UrnState, params: UrnTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: UrnTask, state: UrnState) -> Array:
        """The likeliest colour, the first on ties."""
        del state
        return jnp.argmax(params.probs).astype(jnp.int32)

    def regret(self, params: UrnTask, state: UrnState, action: Array) -> Array:
        """max_v p_v - p_a of one guess."""
        del state
        return jnp.max(params.probs) - _select(params.probs, action)

    def optimal_return(self, params: UrnTask) -> Array:
        return jnp.max(params.probs) * params.max_steps_in_episode

    def validate_task(self, params: UrnTask) -> None:
        super().validate_task(params)
        probs = np.asarray(params.probs, np.float64)
        is_urn = bool(np.all(probs >= 0) and abs(probs.sum() - 1) <= SUM_CLOSE)
        require(is_urn, "task.probs", probs.tolist(), "probabilities that add up to 1")

    def scene(self, params: UrnTask, state: UrnState, episode: Episode) -> Arms:
        del state
        return Arms(np.asarray(params.probs), episode.counts, episode.sums)

    def _observe(self, state: UrnState) -> Array:
        return state.ball.astype(jnp.float32)[None]

    # --- the family of examples ---

    @property
    def num_examples(self) -> int:
        return self.horizon

    @property
    def token_dim(self) -> int:
        return self.num_colors + 1

    @property
    def num_tokens(self) -> int:
        return self.horizon

    @property
    def num_outputs(self) -> int:
        return self.num_colors

    def draw(self, key: Array, params: UrnTask) -> Examples:
        y = jax.vmap(_ball, in_axes=(0, None))(uniform(key, (self.horizon,)), params.probs)
        before = jnp.concatenate([jnp.full(1, self.num_colors, jnp.int32), y[:-1]])
        return Examples(before[:, None].astype(jnp.float32), y)

    def tokens(self, examples: Examples) -> Array:
        return jax.nn.one_hot(examples.x[:, 0].astype(jnp.int32), self.token_dim, dtype=jnp.float32)

    def decisions(self) -> Array:
        return jnp.arange(self.horizon)

    def predict(self, outputs: Array) -> Array:
        return jax.nn.softmax(outputs)

    def scores(self, outputs: Array, y: Array) -> Array:
        return -_at(jax.nn.log_softmax(outputs), y)

    def losses(self, prediction: Array, y: Array) -> Array:
        """-log p(y_k), p mixed with ``FLOOR`` of the uniform distribution."""
        return -jnp.log((1 - FLOOR) * _at(prediction, y) + FLOOR / self.num_colors)

    def distance(self, one: Array, other: Array) -> Array:
        return symmetrised_kl(one, other)

    def memorising(self, pool: UrnTask, examples: Examples) -> Array:
        return pool_mixture(examples.y, pool.probs)

    def generalising(self, examples: Examples) -> Array:
        return dirichlet_mean(examples.y, self.num_colors, self.alpha, jnp.float32)


def _ball(u: Array, probs: Array) -> Array:
    """The colour [] int32 at the place ``u`` [] in [0, 1) of the distribution function; rounding names no new one."""
    below = jnp.sum(jnp.cumsum(probs)[:-1] <= u)
    return below.astype(jnp.int32)


def _at(values: Array, color: Array) -> Array:
    """values[k, color[k]], [K]."""
    return jnp.take_along_axis(values, color[:, None], axis=1)[:, 0]
