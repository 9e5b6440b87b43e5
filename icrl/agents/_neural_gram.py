"""What NeuralUCB and NeuralTS share: how unsure a network is, by the diagonal of the Gram matrix of its gradients."""

import jax
import jax.numpy as jnp

from icrl.agents._neural_agent import NeuralAgent, NeuralState, Weights
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.types import Array, Transition


@struct.dataclass
class NeuralGram(NeuralAgent):
    """Base of agents that keep 1 / diag Z, Z = lam I + sum of g g^T over the gradients g of the arms pulled.

    The diagonal is an approximation, which the authors' experiments make too: the whole Z has (m (dK + 1))^2 entries.
    Their network is sqrt(m) times ours, so that their g / sqrt(m) is our g. They train from the first weights on all
    transitions; here it is one step on the last one.
    """

    lam: float = setting(1.0, low=0.0, open_low=True, help="ridge")

    def init(self, key: Array) -> NeuralState:
        state = super().init(key)
        return state._replace(inverse=jax.tree.map(lambda weight: jnp.full_like(weight, 1.0 / self.lam), state.weights))

    def widths(self, state: NeuralState, obs: Array) -> Array:
        """The width sqrt(g_a^T (diag Z)^-1 g_a) of every arm's prediction, [K]."""
        assert state.inverse is not None
        x = obs.reshape(-1)
        units = state.weights.hidden @ x
        slopes = jnp.where(units > 0, jnp.square(state.weights.output), 0.0)
        first = jnp.sum(slopes * (state.inverse.hidden @ jnp.square(x)), axis=1)
        return jnp.sqrt(first + jnp.square(jax.nn.relu(units)) @ state.inverse.output)

    def update(self, state: NeuralState, transition: Transition) -> NeuralState:
        assert state.inverse is not None
        gradient = self.gradient(state, transition.obs, transition.action)
        pulled = state.inverse.hidden[transition.action]
        inverse = Weights(
            state.inverse.hidden.at[transition.action].set(pulled / (1.0 + pulled * jnp.square(gradient.hidden))),
            state.inverse.output / (1.0 + state.inverse.output * jnp.square(gradient.output)),
        )
        return super().update(state, transition)._replace(inverse=inverse)
