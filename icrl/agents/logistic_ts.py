"""Thompson sampling for logistic rewards with Laplace's approximation (Chapelle, Li 2011, algorithm 3)."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from icrl.agents._grids import each
from icrl.agents._linear_agent import FeatureAgent, eliminate
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import normal
from icrl.core.types import Array, Grid, Transition

NEWTON_STEPS = 6
LEAST_PIVOT = 1e-9  # of a covariance: more certain than that it does not become


class NormalLaw(NamedTuple):
    """The approximate posterior of theta."""

    mean: Array  # [d] float32
    cov: Array  # [d, d] float32


@agents.register("logistic-ts", paper="Chapelle, Li 2011")
@struct.dataclass
class LogisticTS(FeatureAgent):
    """P(r = 1) = sigmoid <theta, x_a>; argmax of <theta, x_a> for theta ~ N(mean, cov), prior N(0, prior_var I).

    After each pull the normal law is multiplied by the likelihood and replaced by Laplace's approximation at the new
    mode. Chapelle and Li keep the diagonal of the precision only; with one observation at a time the whole covariance
    costs a rank-one update, and the mode lies on a line: mean + cov x s with s = r - sigmoid(<mean, x> + s x^T cov x).
    """

    prior_var: float = setting(1.0, low=0.0, open_low=True, help="prior variance of each coordinate of theta")

    grid: ClassVar[Grid] = each("prior_var", 0.1, 0.3, 3.0, 10.0)

    def init(self, key: Array) -> NormalLaw:
        del key
        return NormalLaw(jnp.zeros(self.dim, jnp.float32), self.prior_var * jnp.eye(self.dim, dtype=jnp.float32))

    def values(self, state: NormalLaw, obs: Array, z: Array | float) -> Array:
        """<theta, x_a> [K] for the theta that lies ``z`` [d] posterior standard deviations from the mean."""
        root = eliminate(state.cov, state.cov, LEAST_PIVOT).T  # L, for L^-1 (L L^T) = L^T
        return self.features_at(obs) @ (state.mean + root @ jnp.broadcast_to(z, (self.dim,)))

    def act(self, key: Array, state: NormalLaw, obs: Array) -> Array:
        return jnp.argmax(self.values(state, obs, normal(key, (self.dim,)))).astype(jnp.int32)

    def act_greedy(self, key: Array, state: NormalLaw, obs: Array) -> Array:
        """The largest <mean, x_a>; arm 0 when nothing was seen."""
        del key
        return jnp.argmax(self.features_at(obs) @ state.mean).astype(jnp.int32)

    def update(self, state: NormalLaw, transition: Transition) -> NormalLaw:
        pulled = jnp.arange(self.num_arms) == transition.action
        x = jnp.sum(jnp.where(pulled[:, None], self.features_at(transition.obs), 0.0), axis=0)
        along = state.cov @ x
        score, variance = state.mean @ x, x @ along

        def newton(_: int, s: Array) -> Array:
            chance = jax.nn.sigmoid(score + s * variance)
            return s + (transition.reward - chance - s) / (1.0 + variance * chance * (1.0 - chance))

        s = jax.lax.fori_loop(0, NEWTON_STEPS, newton, jnp.zeros_like(score))
        chance = jax.nn.sigmoid(score + s * variance)
        curvature = chance * (1.0 - chance)
        cov = state.cov - curvature / (1.0 + curvature * variance) * jnp.outer(along, along)
        return NormalLaw(state.mean + s * along, cov)
