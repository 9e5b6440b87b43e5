"""What the diagonal state-space models share: HiPPO eigenvalues, discretisation, complex parameters.

x'(t) = Lambda x(t) + B u(t) with a diagonal Lambda of negative real part becomes x_k = Lbar x_{k-1} + Bbar u_k with
step Delta. Letters: N states, P complex modes. Eigenvalues are computed on the host in NumPy's float64.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.types import Array

DISCRETISATIONS = ("zoh", "bilinear")


def hippo_legs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [N] complex128, by rising imaginary part, and eigenvectors [N, N] of the normal part of HiPPO-LegS.

    HiPPO-LegS (Gu et al. 2020) is A[n, k] = -sqrt((2n + 1)(2k + 1)) below the diagonal and -(n + 1) on it. With
    p[n] = sqrt(n + 1/2), S = A + p p^T is -I/2 plus a skew-symmetric matrix (Gu et al. 2022, S4, appendix), so -iS has
    real eigenvalues. An eigenvector is made unique by a last component that is real and positive.
    """
    n = np.arange(size)
    root = np.sqrt(2.0 * n + 1.0)
    A = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0)
    p = np.sqrt(n + 0.5)
    S = A + np.outer(p, p)
    imaginary, V = np.linalg.eigh(-1j * (S - np.diag(np.diag(S))))
    V = V * (V[-1].conj() / np.abs(V[-1]))
    return np.mean(np.diag(S)) + 1j * imaginary, V


def discretised(Lambda: Array, Delta: Array, rule: str) -> tuple[Array, Array]:
    """(Lbar, the factor that turns B into Bbar) of complex Lambda and real Delta, elementwise.

    zoh: Lbar = exp(Lambda Delta), factor (Lbar - 1) / Lambda. bilinear: Lbar = (1 + Lambda Delta / 2) /
    (1 - Lambda Delta / 2), factor Delta / (1 - Lambda Delta / 2). (Smith et al. 2023, S5, section 2.)
    """
    if rule == "zoh":
        return jnp.exp(Lambda * Delta), jnp.expm1(Lambda * Delta) / Lambda
    half = 1.0 / (1.0 - Lambda * Delta / 2)
    return half * (1.0 + Lambda * Delta / 2), half * Delta


def log_uniform(key: Array, shape: tuple[int, ...], low: float, high: float) -> Array:
    """Logarithms of numbers that are uniform in log space over [low, high], float32."""
    return jax.random.uniform(key, shape, jnp.float32, minval=math.log(low), maxval=math.log(high))


def pair(z: Array | np.ndarray) -> Array:
    """A complex array as float32 with a trailing axis (re, im): what optimisers and checkpoints see."""
    return jnp.stack([jnp.real(z), jnp.imag(z)], axis=-1).astype(jnp.float32)


def complex_of(parameter: Array) -> Array:
    """The complex array of a parameter [..., (re, im)]."""
    return jax.lax.complex(parameter[..., 0], parameter[..., 1])


def project(u: Array, M: Array) -> Array:
    """M u for real u [T, H] and complex M [P, H], [T, P] complex: two real products instead of four."""
    return jax.lax.complex(u @ M.real.T, u @ M.imag.T)


def real_part(C: Array, x: Array) -> Array:
    """Re(C x) for complex C [H, P] and x [T, P], [T, H]."""
    return x.real @ C.real.T - x.imag @ C.imag.T
