"""Numbers of the papers: eigenvalues, discretisations, initial rings, and the memories' closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.models.layers.delta_rule import gated_delta_rule, unit_lower_inverse
from icrl.models.layers.diagonal_ssm import discretised, hippo_legs
from icrl.models.layers.matrix_memory import gated_memory
from icrl.models.layers.recurrence import DiagonalRecurrence
from icrl.models.lru import LRUConfig, LRUMixer
from icrl.models.s4d import S4DConfig, S4DMixer
from icrl.models.s5 import S5Config, S5Mixer

FREQUENCIES = {  # largest imaginary parts of the eigenvalues of HiPPO-LegS by size
    4: (4.60329, 0.5565),
    8: (19.85741, 5.35421, 1.95779, 0.42749),
    16: (80.96608, 25.62923, 13.83434, 8.3621),
    64: (1303.27384, 433.03076, 258.15221, 182.62041),
}
# Of the four modes of negative imaginary part at size 8 with Delta = 0.1: Lbar and the factor of B.
LBAR = {
    "zoh": (-0.38348 - 0.87051j, 0.81811 - 0.48532j, 0.93306 - 0.18504j, 0.95036 - 0.04065j),
    "bilinear": (0.00667 - 0.97512j, 0.82662 - 0.47708j, 0.93358 - 0.18466j, 0.95037 - 0.04067j),
}
FACTOR = {
    "zoh": (0.045563 - 0.068523j, 0.093004 - 0.025287j, 0.096927 - 0.009439j, 0.097512 - 0.002067j),
    "bilinear": (0.050334 - 0.048756j, 0.091331 - 0.023854j, 0.096679 - 0.009233j, 0.097519 - 0.002034j),
}


@pytest.mark.parametrize("size", FREQUENCIES)
def test_hippo_eigenvalues(size):
    eigenvalues, V = hippo_legs(size)
    top = FREQUENCIES[size]
    np.testing.assert_allclose(eigenvalues.real, -0.5, atol=1e-10)
    np.testing.assert_allclose(eigenvalues.imag[::-1][: len(top)], top, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(eigenvalues.imag, -eigenvalues.imag[::-1], atol=1e-9)
    np.testing.assert_allclose(V.conj().T @ V, np.eye(size), atol=1e-12)
    n = np.arange(size)
    p, root = np.sqrt(n + 0.5), np.sqrt(2 * n + 1)
    A = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0)
    np.testing.assert_allclose(V @ np.diag(eigenvalues) @ V.conj().T - np.outer(p, p), A, atol=1e-9 * size**2)


@pytest.mark.parametrize("rule", LBAR)
def test_discretisation(rule):
    eigenvalues, _ = hippo_legs(8)
    Lbar, factor = discretised(jnp.asarray(eigenvalues[:4], jnp.complex64), jnp.float32(0.1), rule)
    np.testing.assert_allclose(Lbar, LBAR[rule], atol=1e-4)
    np.testing.assert_allclose(factor, FACTOR[rule], atol=1e-5)


def test_s5_with_conjugate_pairs_is_the_real_system_it_came_from():
    """x' = S x + B u with HiPPO's normal part, discretised by matrix exponential, without diagonalising anything."""
    N, H, T, Delta = 8, 3, 40, 0.05
    mixer = S5Mixer(S5Config(width=H, state_size=N, dt_min=Delta, dt_max=Delta), nnx.Rngs(0))
    _, V = hippo_legs(N)
    kept = V[:, : N // 2]
    B = 2 * np.real(kept @ (mixer.B[..., 0] + 1j * mixer.B[..., 1]))  # modes and their conjugates add up to a real B
    C = 2 * np.real((mixer.C[..., 0] + 1j * mixer.C[..., 1]) @ kept.conj().T)
    n = np.arange(N)
    root = np.sqrt(2 * n + 1)
    S = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0) + np.outer(np.sqrt(n + 0.5), np.sqrt(n + 0.5))
    Sbar = power_series(S * Delta)
    Bbar = np.linalg.solve(S, Sbar - np.eye(N)) @ B
    u, x, y = np.random.default_rng(0).normal(size=(T, H)), np.zeros(N), []
    for u_k in u:
        x = Sbar @ x + Bbar @ u_k
        y.append(C @ x + np.asarray(mixer.D[...]) * u_k)
    found, _ = mixer(jnp.asarray(u, jnp.float32), jnp.zeros(T, bool), mixer.initial_carry())
    np.testing.assert_allclose(found, y, atol=1e-5)


def power_series(M):
    """exp(M) in float64."""
    total, term = np.eye(len(M)), np.eye(len(M))
    for k in range(1, 60):
        term = term @ M / k
        total = total + term
    return total


def test_s4d_is_its_convolution():
    T = 50
    mixer = S4DMixer(S4DConfig(width=3, state_size=6), nnx.Rngs(0))
    A = -np.exp(np.float64(mixer.log_A_re[...])) + 1j * np.float64(mixer.A_im[...])
    np.testing.assert_allclose(A[0], -0.5 + 1j * np.pi * np.arange(3), rtol=1e-6)
    Delta, C = np.exp(np.float64(mixer.log_step[...])), np.float64(mixer.C[..., 0]) + 1j * np.float64(mixer.C[..., 1])
    Abar = np.exp(A * Delta)
    Bbar = (Abar - 1) / A
    kernel = 2 * np.real(np.sum(C * Bbar * Abar ** np.arange(T)[:, None, None], axis=-1))  # [T, H]
    u = np.random.default_rng(0).normal(size=(T, 3))
    y = np.stack([np.convolve(u[:, h], kernel[:, h])[:T] for h in range(3)], axis=1) + np.asarray(mixer.D[...]) * u
    found, _ = mixer(jnp.asarray(u, jnp.float32), jnp.zeros(T, bool), mixer.initial_carry())
    np.testing.assert_allclose(found, y, atol=2e-5)


def test_lru_begins_on_its_ring():
    mixer = LRUMixer(LRUConfig(width=4, state_size=20_000, r_min=0.5, r_max=0.9, max_phase=0.3), nnx.Rngs(0))
    eigenvalues = np.asarray(mixer.eigenvalues())
    radius, phase = np.abs(eigenvalues), np.angle(eigenvalues)
    assert radius.min() >= 0.5 - 1e-5 and radius.max() <= 0.9 + 1e-5
    assert phase.min() >= 0 and phase.max() <= 0.3 + 1e-5
    assert abs(np.mean(radius**2) - (0.25 + 0.81) / 2) < 3e-3  # uniform in area
    assert abs(phase.mean() - 0.15) < 3e-3
    np.testing.assert_allclose(np.exp(mixer.log_gamma[...]) ** 2 + radius**2, 1.0, atol=1e-5)


def test_lru_can_be_sampled_up_to_the_unit_circle():
    mixer = LRUMixer(LRUConfig(width=4, state_size=1000, r_min=0.9999, r_max=1.0), nnx.Rngs(0))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(nnx.state(mixer)))


def resettable(first, second):
    """Lu et al. 2023, equation 4: the three-part operator on (A, b, d)."""
    (a_i, b_i, d_i), (a_j, b_j, d_j) = first, second
    keep = 1 - d_j
    return a_j * a_i * keep + a_j * d_j, keep * (a_j * b_i + b_j) + d_j * b_j, d_i * keep + d_j


def test_a_start_is_the_resettable_operator_of_s5rl():
    random, T, P = np.random.default_rng(0), 60, 5
    a = random.uniform(0.5, 1.0, (T, P)) * np.exp(1j * random.uniform(-3, 3, (T, P)))
    b, h = random.normal(size=(T, P)) + 0j, random.normal(size=P) + 0j
    start = random.random(T) < 0.1
    d = np.repeat(start[:, None], P, 1).astype(float)
    items = [np.concatenate([first[None], rest]) for first, rest in zip((np.ones(P), h, np.zeros(P)), (a, b, d))]  # noqa: B905
    expected, running = [], tuple(item[0] for item in items)
    for t in range(1, T + 1):
        running = resettable(running, tuple(item[t] for item in items))
        expected.append(running[1])
    scan = DiagonalRecurrence(lambda item: item, lambda state, item: state)
    with jax.enable_x64(True):
        y, last = scan((jnp.asarray(a), jnp.asarray(b)), jnp.asarray(start), jnp.asarray(h))
        np.testing.assert_allclose(y, expected, atol=1e-12)
        np.testing.assert_allclose(last, expected[-1], atol=1e-12)


def test_gated_memory_is_its_loop():
    random, T, H = np.random.default_rng(0), 150, 2  # more than two chunks
    q, k, v = random.normal(size=(T, H, 3)), random.normal(size=(T, H, 3)), random.normal(size=(T, H, 4))
    log_a, start = -random.exponential(0.3, (T, H)), random.random(T) < 0.05
    S = before = random.normal(size=(H, 3, 4))
    expected = []
    for t in range(T):
        S = (0 if start[t] else np.exp(log_a[t])[:, None, None] * S) + k[t][:, :, None] * v[t][:, None, :]
        expected.append(np.einsum("hk,hkv->hv", q[t], S))
    with jax.enable_x64(True):
        o, after = jax.jit(gated_memory)(*map(jnp.asarray, (q, k, v, log_a, start, before)))
        np.testing.assert_allclose(o, expected, atol=1e-12)
        np.testing.assert_allclose(after, S, atol=1e-12)


def test_gated_delta_rule_is_its_loop():
    random, T, H, K, V = np.random.default_rng(0), 77, 2, 3, 4  # more than two chunks
    q, k, v = random.normal(size=(T, H, K)), random.normal(size=(T, H, K)), random.normal(size=(T, H, V))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    log_alpha, beta = -random.exponential(0.3, (T, H)), random.random((T, H))
    start = random.random(T) < 0.05
    before = random.normal(size=(H, K, V))
    S, expected = before.swapaxes(1, 2).copy(), []  # the paper's [d_v, d_k]
    for t in range(T):
        S = np.zeros_like(S) if start[t] else S
        for h in range(H):
            forget = np.eye(K) - beta[t, h] * np.outer(k[t, h], k[t, h])
            S[h] = np.exp(log_alpha[t, h]) * S[h] @ forget + beta[t, h] * np.outer(v[t, h], k[t, h])
        expected.append(np.einsum("hvk,hk->hv", S, q[t]))
    with jax.enable_x64(True):
        o, after = jax.jit(gated_delta_rule)(q, k, v, log_alpha, beta, start, before)
        np.testing.assert_allclose(o, expected, atol=1e-12)
        np.testing.assert_allclose(after, S.swapaxes(1, 2), atol=1e-12)


def test_the_delta_rule_replaces_what_stood_under_a_key():
    """alpha = beta = 1 and |k| = 1: after writing (k, v), S k == v, whatever was stored before."""
    random, T = np.random.default_rng(0), 40
    k, v = random.normal(size=(T, 1, 8)).astype(np.float32), random.normal(size=(T, 1, 5)).astype(np.float32)
    k[20:30] = k[20]  # one key again and again
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    before = jnp.asarray(10 * random.normal(size=(1, 8, 5)), jnp.float32)
    one, start = np.ones((T, 1), np.float32), np.zeros(T, bool)
    o, S = jax.jit(gated_delta_rule)(k, k, v, 0 * one, one, start, before)  # every step reads what it wrote
    np.testing.assert_allclose(o, v, atol=2e-5)
    np.testing.assert_allclose(S[0].T @ k[-1, 0], v[-1, 0], atol=2e-5)


def test_unit_lower_inverse():
    for size in (1, 2, 5, 32):
        L = np.tril(np.random.default_rng(size).uniform(-1, 1, (3, size, size)), -1)
        with jax.enable_x64(True):
            np.testing.assert_allclose(unit_lower_inverse(jnp.asarray(L)), np.linalg.inv(np.eye(size) + L), atol=1e-9)
