"""What neural contextual bandit agents share: one two-layer network of all arms, one step of SGD on every pull.

Letters: K arms, d scalars of a context, m hidden units, S perturbations. After Deb, Ban, Zuo, He, Banerjee 2024
(Contextual Bandits with Online Neural Regression, ICLR). All predict the loss y = 1 - reward, so low is good.
"""

from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp

from icrl.agents._arm_agent import MAX_ARMS, MAX_DIM
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import required, setting
from icrl.core.threefry import categorical
from icrl.core.types import Agent, Array, Environment, Transition

MAX_WIDTH, MAX_PERTURBATIONS = 65536, 1024


class Weights(NamedTuple):
    """f_a(x) = <v, relu(W_a x)>: a network on the disjoint encoding (0, .., x, .., 0) in R^{dK} of arm and context."""

    hidden: Array  # W [K, m, d] float32
    output: Array  # v [m] float32


class Perturbation(NamedTuple):
    """What the perturbed network remembers: where it began, and S random signs for each weight."""

    start: Weights
    signs: Weights  # a leading axis [S] of -1.0 and 1.0


class NeuralState(NamedTuple):
    """The network, and what some agents keep besides."""

    weights: Weights
    perturbation: Perturbation | None = None  # of the perturbed network
    inverse: Weights | None = None  # 1 / diag Z of the agents with a Gram matrix, see ``neural_gram``


@struct.dataclass
class NeuralAgent(Agent):
    """Base of agents that choose by a network's predictions and fit it by one SGD step on each transition.

    W ~ N(0, 2 / (dK)), v ~ N(0, 1/m): for contexts of length 1 first predictions are near 0 (loss free) before the
    link. The observation is the context; rewards lie in [0, 1]. Departures from the paper: one step with a constant
    rate, no projection onto a ball around the first weights.

    ``num_perturbations`` S > 0 turns on the paper's perturbed network f~_s = f + c <theta - theta_0, eps_s> / m^{1/4},
    s = 1 .. S, with random signs eps_s: the prediction is the mean of the S predictions, the loss that of the S losses.
    The signs are drawn once a life; before the link they move all arms alike.
    """

    num_arms: int = required(low=1, high=MAX_ARMS, static=True, help="K, arms")
    dim: int = required(low=1, high=MAX_DIM, static=True, help="d, scalars of a context")
    width: int = setting(32, low=1, high=MAX_WIDTH, static=True, help="m, hidden units")
    num_perturbations: int = setting(
        0, low=0, high=MAX_PERTURBATIONS, static=True, help="S, perturbed copies; 0: the plain network"
    )
    learning_rate: float = setting(0.1, low=0.0, open_low=True, help="step size of SGD")
    perturbation_scale: float = setting(0.1, low=0.0, help="c, scale of the perturbation")

    kl_loss: ClassVar[bool] = False  # sigmoid outputs and KL loss, instead of linear outputs and square loss

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        found = "numbered states"
        require(
            not env.spec.obs_nvec,
            f"environment {env.name}",
            found,
            "real-valued contexts",
            f"{cls.__name__} needs them",
        )
        return cls(**{"num_arms": env.num_actions, "dim": env.spec.obs_dim, **settings})

    def init(self, key: Array) -> NeuralState:
        key_signs, key = jax.random.split(key) if self.num_perturbations else (None, key)
        shape, size = (self.num_arms, self.width, self.dim), self.num_arms * self.width * self.dim
        normal = jax.random.normal(
            key, (size + self.width,), jnp.float32
        )  # one draw, as every call of a generator costs compile time
        hidden = normal[:size].reshape(shape) * jnp.sqrt(jnp.float32(2.0 / (self.dim * self.num_arms)))
        weights = Weights(hidden, normal[size:] / jnp.sqrt(jnp.float32(self.width)))
        return NeuralState(weights, None if key_signs is None else self._perturbation(key_signs, weights))

    def losses(self, state: NeuralState, obs: Array) -> Array:
        """Predicted loss of every arm in the context ``obs``, [K]: the mean over perturbations, if there are any."""
        hidden = jax.nn.relu(state.weights.hidden @ obs.reshape(-1))
        outputs = (hidden @ state.weights.output)[None] + self._shifts(state)[:, None]
        return jnp.mean(self.link(outputs), axis=0)

    def act_greedy(self, key: Array, state: NeuralState, obs: Array) -> Array:
        """The least predicted loss; ties to the first."""
        del key
        return jnp.argmin(self.losses(state, obs)).astype(jnp.int32)

    def update(self, state: NeuralState, transition: Transition) -> NeuralState:
        """One SGD step on the square loss (f - y)^2 / 2, or on y ln(y/p) + (1-y) ln((1-y)/(1-p)) with p = sigmoid(f).

        Both have the derivative link(f) - y with respect to f. The KL loss takes y in [0, 1]: others are moved there.
        """
        gradient = self.gradient(state, transition.obs, transition.action)
        loss = 1.0 - transition.reward
        loss = jnp.clip(loss, 0.0, 1.0) if self.kl_loss else loss
        output = jnp.vdot(state.weights.output, gradient.output)
        residuals = self.link(output + self._shifts(state)) - loss
        step = -self.learning_rate * jnp.mean(residuals)
        hidden = state.weights.hidden.at[transition.action].add(step * gradient.hidden)
        weights = Weights(hidden, state.weights.output + step * gradient.output)
        if state.perturbation is not None:
            # d f~_s / d theta has the term c eps_s / m^{1/4} besides
            scale = -self.learning_rate * self._scale() / residuals.size
            pushes = jax.tree.map(lambda signs: scale * jnp.tensordot(residuals, signs, 1), state.perturbation.signs)
            weights = jax.tree.map(jnp.add, weights, pushes)
        return state._replace(weights=weights)

    def link(self, output: Array) -> Array:
        """Prediction from the network's output."""
        return jax.nn.sigmoid(output) if self.kl_loss else output

    def gradient(self, state: NeuralState, obs: Array, action: Array) -> Weights:
        """Gradient of f_a(x) at arm a = ``action``: W_a's part [m, d] (that of other arms is 0) and v's [m]."""
        x = obs.reshape(-1)
        units = state.weights.hidden[action] @ x
        return Weights(jnp.outer(jnp.where(units > 0, state.weights.output, 0.0), x), jax.nn.relu(units))

    def _perturbation(self, key: Array, start: Weights) -> Perturbation:
        keys, draws = jax.random.split(key), (self.num_perturbations,)
        hidden = jax.random.rademacher(keys[0], draws + start.hidden.shape, jnp.float32)
        output = jax.random.rademacher(keys[1], draws + start.output.shape, jnp.float32)
        return Perturbation(start, Weights(hidden, output))

    def _shifts(self, state: NeuralState) -> Array:
        """The shifts c <theta - theta_0, eps_s> / m^{1/4} for each s, [S]; the one shift 0 without perturbation."""
        if state.perturbation is None:
            return jnp.zeros(1, jnp.float32)
        start, signs = state.perturbation
        moved = jax.tree.map(jnp.subtract, state.weights, start)
        along = jnp.tensordot(signs.hidden, moved.hidden, 3) + signs.output @ moved.output
        return jnp.asarray(self._scale() * along)

    def _scale(self) -> Array | float:
        return self.perturbation_scale / self.width**0.25


def inverse_gap_sample(key: Array, others: Array, losses: Array) -> Array:
    """An arm drawn with probabilities ``others`` [K], except that the best arm has all that the others leave."""
    is_best = jnp.arange(losses.shape[0]) == jnp.argmin(losses)
    rest = jnp.where(is_best, 0.0, others)
    probs = jnp.where(is_best, 1.0 - jnp.sum(rest), rest)
    return categorical(key, jnp.log(probs))
