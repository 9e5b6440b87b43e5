"""Linear recurrent unit (Orvieto et al. 2023, "Resurrecting recurrent neural networks for long sequences").

x_k = lambda x_{k-1} + gamma (B u_k), y_k = Re(C x_k) + D u_k with lambda = exp(-exp(nu) + i exp(theta)): always stable.
At first |lambda|^2 is uniform in [r_min^2, r_max^2], the phase uniform in [0, max_phase] and gamma = sqrt(1 -
|lambda|^2), which is then learned.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.fields import setting
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.diagonal_ssm import complex_of, project, real_part
from icrl.models.layers.recurrence import DiagonalRecurrence
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig


@dataclasses.dataclass(frozen=True)
class LRUConfig(StackConfig):
    """Shape of the model."""

    block: str = "glu"
    state_size: int = setting(32, low=1, high=2**16, help="P, complex states of a layer")
    r_min: float = setting(0.0, low=0.0, high=1.0, help="smallest initial |lambda|")
    r_max: float = setting(1.0, low="r_min", high=1.0, open_low=True, help="largest initial |lambda|")
    max_phase: float = setting(
        2 * math.pi, low=0.0, high=2 * math.pi, open_low=True, help="largest initial phase of lambda"
    )


class LRUMixer(Mixer):
    """State x [P] complex."""

    def __init__(self, config: LRUConfig, rngs: nnx.Rngs):
        H, self.P = config.width, config.state_size
        # not 0: their logarithms are taken
        area, turn = jax.random.uniform(rngs.params(), (2, self.P), jnp.float32, minval=1e-6)
        square = area * (config.r_max**2 - config.r_min**2) + config.r_min**2
        square = jnp.minimum(square, 1.0 - 1e-6)
        phase = config.max_phase * turn
        self.nu = nnx.Param(jnp.log(-0.5 * jnp.log(square)))
        self.theta = nnx.Param(jnp.log(phase))
        self.log_gamma = nnx.Param(0.5 * jnp.log1p(-square))
        self.B = nnx.Param(jax.random.normal(rngs.params(), (self.P, H, 2), jnp.float32) / (2 * H) ** 0.5)
        self.C = nnx.Param(jax.random.normal(rngs.params(), (H, self.P, 2), jnp.float32) / self.P**0.5)
        self.D = nnx.Param(jax.random.normal(rngs.params(), (H,), jnp.float32))

    def initial_carry(self) -> Array:
        return jnp.zeros(self.P, jnp.complex64)

    def eigenvalues(self) -> Array:
        """The eigenvalues lambda [P] complex, inside the unit circle."""
        return jnp.exp(jax.lax.complex(-jnp.exp(self.nu[...]), jnp.exp(self.theta[...])))

    def __call__(self, u: Array, start: Array, carry: Array) -> tuple[Array, Array]:
        eigenvalues = self.eigenvalues()
        B = jnp.exp(self.log_gamma[...])[:, None] * complex_of(self.B[...])
        scan = DiagonalRecurrence(lambda Bu: (eigenvalues, Bu), lambda x, Bu: x)
        x, carry = scan(project(u, B), start, carry)
        return real_part(complex_of(self.C[...]), x) + self.D[None] * u, carry


@models.register("lru", paper="Orvieto et al. 2023")
class LRU(ResidualStack):
    """LRU layers in residual blocks."""

    Config = LRUConfig
    Mixer = LRUMixer
