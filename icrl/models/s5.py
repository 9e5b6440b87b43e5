"""S5, resettable (Smith et al. 2023, "Simplified state space layers"; Lu et al. 2023, for in-context RL).

One system of N states for all H features: x_k = Lbar x_{k-1} + Bbar u_k, y_k = Re(C x_k) + D u_k, with a diagonal
Lambda that begins as the eigenvalues of HiPPO-LegS. With ``conj_sym`` only the modes of negative imaginary part are
kept (P = N / 2); a factor of two counts the others, their conjugates. A start drops all earlier state in the scan.

Departures: one HiPPO block; C is drawn with variance 1 / N (the S5 default; S5RL's code draws it 1 / (N H)); by default
Re(Lambda) <= -1e-4 (``clip_eigs``), as the S5 authors advise for unbounded sequences and S5RL's code does not; one
optimiser serves all parameters.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.diagonal_ssm import (
    DISCRETISATIONS,
    complex_of,
    discretised,
    hippo_legs,
    log_uniform,
    pair,
    project,
    real_part,
)
from icrl.models.layers.recurrence import DiagonalRecurrence
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig


@dataclasses.dataclass(frozen=True)
class S5Config(StackConfig):
    """Shape of the model."""

    block: str = "glu"
    state_size: int = setting(32, low=1, high=2**16, help="N, states of a layer")
    conj_sym: bool = setting(True, help="keep one mode of each conjugate pair")
    discretisation: str = setting("zoh", choices=DISCRETISATIONS, help="rule that makes steps of the continuous system")
    dt_min: float = setting(0.001, low=0.0, high="dt_max", open_low=True, help="smallest initial step Delta")
    dt_max: float = setting(0.1, low=0.0, open_low=True, help="largest initial step Delta")
    clip_eigs: bool = setting(True, help="hold the real parts of the eigenvalues below zero")

    def __post_init__(self) -> None:
        super().__post_init__()
        even = not self.conj_sym or self.state_size % 2 == 0
        require(even, "state_size", self.state_size, "an even number", "or set conj_sym to false")


class S5Mixer(Mixer):
    """State x [P] complex."""

    def __init__(self, config: S5Config, rngs: nnx.Rngs):
        H, N = config.width, config.state_size
        self.config = config
        self.P = N // 2 if config.conj_sym else N
        eigenvalues, eigenvectors = hippo_legs(N)
        V = jnp.asarray(eigenvectors[:, : self.P], jnp.complex64)
        B = jax.random.normal(rngs.params(), (N, H), jnp.float32) / H**0.5
        C = jax.random.normal(rngs.params(), (H, N, 2), jnp.float32) / N**0.5
        self.Lambda = nnx.Param(pair(eigenvalues[: self.P]))
        self.B = nnx.Param(pair(V.conj().T @ B))
        self.C = nnx.Param(pair(complex_of(C) @ V))
        self.D = nnx.Param(jax.random.normal(rngs.params(), (H,), jnp.float32))
        self.log_step = nnx.Param(log_uniform(rngs.params(), (self.P,), config.dt_min, config.dt_max))

    def initial_carry(self) -> Array:
        return jnp.zeros(self.P, jnp.complex64)

    def __call__(self, u: Array, start: Array, carry: Array) -> tuple[Array, Array]:
        Lbar, factor = self._discrete()
        C, D = complex_of(self.C[...]), self.D[...]
        Bbar = factor[:, None] * complex_of(self.B[...])
        scan = DiagonalRecurrence(lambda Bu: (Lbar, Bu), lambda x, Bu: x)
        x, carry = scan(project(u, Bbar), start, carry)
        return (2 if self.config.conj_sym else 1) * real_part(C, x) + D[None] * u, carry

    def _discrete(self) -> tuple[Array, Array]:
        Lambda = complex_of(self.Lambda[...])
        if self.config.clip_eigs:
            Lambda = jax.lax.complex(jnp.minimum(Lambda.real, -1e-4), Lambda.imag)
        return discretised(Lambda, jnp.exp(self.log_step[...]), self.config.discretisation)


@models.register("s5", paper="Smith et al. 2023; Lu et al. 2023")
class S5(ResidualStack):
    """S5 layers in residual blocks."""

    Config = S5Config
    Mixer = S5Mixer
