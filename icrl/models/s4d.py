"""S4D, the diagonal S4 (Gu et al. 2022, "On the parameterization and initialization of diagonal state ...").

Every feature has a system of its own, of N states as P = N / 2 conjugate pairs: x_k = Abar x_{k-1} + Bbar u_k with B =
1, y_k = 2 Re(C x_k) + D u_k. A begins as S4D-Lin, A_n = -1/2 + i pi n, or S4D-Inv, A_n = -1/2 + i (N / pi)(N / (2n + 1)
- 1); Re(A) = -exp(.) keeps it stable.

Departure: the recurrence instead of the convolution, whose kernel cannot forget at a start.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.diagonal_ssm import DISCRETISATIONS, complex_of, discretised, log_uniform
from icrl.models.layers.recurrence import DiagonalRecurrence
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig

SPECTRA = ("lin", "inv")


@dataclasses.dataclass(frozen=True)
class S4DConfig(StackConfig):
    """Shape of the model."""

    block: str = "glu"
    state_size: int = setting(16, low=2, high=2**16, help="N, states of a feature, even")
    spectrum: str = setting("lin", choices=SPECTRA, help="initial eigenvalues: those of S4D-Lin or of S4D-Inv")
    discretisation: str = setting("zoh", choices=DISCRETISATIONS, help="rule that makes steps of the continuous system")
    dt_min: float = setting(0.001, low=0.0, high="dt_max", open_low=True, help="smallest initial step Delta")
    dt_max: float = setting(0.1, low=0.0, open_low=True, help="largest initial step Delta")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.state_size % 2 == 0, "state_size", self.state_size, "an even number")


def initial_frequencies(spectrum: str, size: int) -> np.ndarray:
    """Im(A_n) of n = 0 .. N / 2 - 1, [P] float64."""
    n = np.arange(size // 2)
    return np.pi * n if spectrum == "lin" else size / np.pi * (size / (2 * n + 1) - 1)


class S4DMixer(Mixer):
    """State x [H, P] complex for the H = D features."""

    def __init__(self, config: S4DConfig, rngs: nnx.Rngs):
        H, P = config.width, config.state_size // 2
        self.config, self.shape = config, (H, P)
        frequencies = jnp.asarray(initial_frequencies(config.spectrum, config.state_size), jnp.float32)
        self.log_A_re = nnx.Param(jnp.full((H, P), np.log(0.5), jnp.float32))
        self.A_im = nnx.Param(jnp.broadcast_to(frequencies, (H, P)))
        self.C = nnx.Param(jax.random.normal(rngs.params(), (H, P, 2), jnp.float32) / 2**0.5)  # CN(0, 1)
        self.D = nnx.Param(jax.random.normal(rngs.params(), (H,), jnp.float32))
        self.log_step = nnx.Param(log_uniform(rngs.params(), (H, 1), config.dt_min, config.dt_max))

    def initial_carry(self) -> Array:
        return jnp.zeros(self.shape, jnp.complex64)

    def __call__(self, u: Array, start: Array, carry: Array) -> tuple[Array, Array]:
        A = jax.lax.complex(-jnp.exp(self.log_A_re[...]), self.A_im[...])
        Abar, Bbar = discretised(A, jnp.exp(self.log_step[...]), self.config.discretisation)
        C = complex_of(self.C[...])
        scan = DiagonalRecurrence(
            lambda u_k: (Abar, Bbar * u_k[:, None]),
            lambda x, u_k: 2 * jnp.sum(C.real * x.real - C.imag * x.imag, axis=-1),
        )
        y, carry = scan(u, start, carry)
        return y + self.D[None] * u, carry


@models.register("s4d", paper="Gu et al. 2022")
class S4D(ResidualStack):
    """S4D layers in residual blocks."""

    Config = S4DConfig
    Mixer = S4DMixer
