"""Whole layers against loops over time in NumPy's float64, written from the papers' equations, one state at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.core.registry import models
from icrl.models.hybrid import AttentionMixer, HybridConfig

WIDTH, LENGTH = 8, 70  # more than two chunks of the delta rule, more than one of the others


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.log1p(np.exp(x))


def rms(x, weight, eps=1e-5):
    return x / np.sqrt(np.mean(x**2) + eps) * weight


def unit(x):
    return x / np.sqrt(np.sum(x**2) + 1e-6)


def convolved(p, window):
    """The causal convolution's output at the last row of ``window``, a list of the inputs since the latest start."""
    taps = len(p["w"])
    return p["bias"] + sum(p["w"][lag] * window[-1 - lag] for lag in range(min(taps, len(window))))


def mamba2(p, u, start, H=4, N=32):
    D, E = u.shape[1], 2 * u.shape[1]
    P, y = E // H, []
    for t in range(len(u)):
        if t == 0 or start[t]:
            past, h = [], np.zeros((H, P, N))
        z, xBC, dt = np.split(u[t] @ p["in_proj"]["kernel"], [E, 2 * E + 2 * N])
        past.append(xBC)
        x, B, C = np.split(silu(convolved(p["conv"], past)), [E, E + N])
        Delta = softplus(dt + p["dt_bias"])
        out = np.zeros(E)
        for head in range(H):
            x_h = x[head * P : (head + 1) * P]
            h[head] = np.exp(-Delta[head] * np.exp(p["A_log"][head])) * h[head] + Delta[head] * np.outer(x_h, B)
            out[head * P : (head + 1) * P] = h[head] @ C + p["D"][head] * x_h
        y.append(rms(out * silu(z), p["norm"]["scale"]) @ p["out_proj"]["kernel"])
    assert len(y[0]) == D
    return y


def deltanet(p, u, start, H=2):
    D, y = u.shape[1], []
    d = D // H
    for t in range(len(u)):
        if t == 0 or start[t]:
            past, S = [], np.zeros((H, d, d))  # the paper's [d_v, d_k]
        past.append(u[t] @ p["qkv"]["kernel"])
        heads = silu(convolved(p["conv"], past)).reshape(H, 3 * d)
        beta = sigmoid(u[t] @ p["beta"]["kernel"])
        out = []
        for h in range(H):
            q, k, v = unit(heads[h, :d]), unit(heads[h, d : 2 * d]), heads[h, 2 * d :]
            S[h] = S[h] - beta[h] * np.outer(S[h] @ k - v, k)
            out.append(rms(S[h] @ q / np.sqrt(d), p["norm"]["scale"]))
        y.append(np.concatenate(out) @ p["mix"]["kernel"])
    return y


def centred(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def mlstm(p, u, start, H=2):
    """The plain recurrence, exponential gates and all, with no stabiliser."""
    E = 2 * u.shape[1]
    d, y = E // H, []
    for t in range(len(u)):
        if t == 0 or start[t]:
            past, C, n = [], np.zeros((H, d, d)), np.zeros((H, d))
        x, z = np.split(u[t] @ p["up"]["kernel"], 2)
        past.append(x)
        c = silu(convolved(p["conv"], past))
        q, k = np.split(c @ p["qk"]["kernel"], 2)
        v = x @ p["v"]["kernel"]
        i, f = np.split(np.concatenate([q, k, v]) @ p["gates"]["kernel"], 2)
        i, f = np.exp(i + p["i_bias"]), sigmoid(f + p["f_bias"])
        h = np.zeros(E)
        for head in range(H):
            part = slice(head * d, (head + 1) * d)
            k_h = k[part] / np.sqrt(d)
            C[head] = f[head] * C[head] + i[head] * np.outer(v[part], k_h)
            n[head] = f[head] * n[head] + i[head] * k_h
            h[part] = centred(C[head] @ q[part] / max(abs(n[head] @ q[part]), 1.0))
        y.append(((h * p["scale"] + p["skip"] * c) * silu(z)) @ p["down"]["kernel"])
    return y


def slstm(p, u, start, H=2):
    """The plain recurrence, exponential gates and all, with no stabiliser."""
    D = u.shape[1]
    d, y = D // H, []
    for t in range(len(u)):
        if t == 0 or start[t]:
            past, c, n, h = [], np.zeros(D), np.zeros(D), np.zeros(D)
        past.append(u[t])
        smooth = silu(convolved(p["conv"], past))
        W = np.concatenate([smooth @ p["W_if"]["kernel"], u[t] @ p["W_zo"]["kernel"]]).reshape(4, D)
        Rh = [np.concatenate([h[j * d : (j + 1) * d] @ p["R"][gate, j] for j in range(H)]) for gate in range(4)]
        i, f, z, o = W + np.array(Rh) + p["bias"]
        c, n = sigmoid(f) * c + np.exp(i) * np.tanh(z), sigmoid(f) * n + np.exp(i)
        h = sigmoid(o) * c / n
        y.append(np.concatenate([centred(part) for part in h.reshape(H, d)]) * p["scale"])
    return y


def attention(p, u, start, H=2):
    """The mixer of the hybrid's layers with attention."""
    D = u.shape[1]
    d, y = D // H, []
    for t in range(len(u)):
        if t == 0 or start[t]:
            past = []
        qkv = u[t] @ p["attention"]["qkv"]["kernel"] + p["attention"]["qkv"]["bias"]
        q, k, v = qkv.reshape(3, H, d)
        past.append((k, v))
        out = []
        for h in range(H):
            weights = np.exp([q[h] @ k[h] / np.sqrt(d) for k, _ in past])
            out.append(sum(w * v[h] for w, (_, v) in zip(weights, past, strict=True)) / weights.sum())
        y.append(np.concatenate(out) @ p["attention"]["mix"]["kernel"] + p["attention"]["mix"]["bias"])
    return y


LOOPS = {"attention": attention, "deltanet": deltanet, "mamba2": mamba2, "mlstm": mlstm, "slstm": slstm}


def new_mixer(name):
    if name == "attention":
        return AttentionMixer(HybridConfig(width=WIDTH), LENGTH, nnx.Rngs(0))
    return models[name].Mixer(models[name].Config(width=WIDTH), nnx.Rngs(0))


@pytest.mark.parametrize("name", LOOPS)
def test_a_mixer_is_its_loop(name):
    mixer = new_mixer(name)
    graphdef, params = nnx.split(mixer)
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x + 0.3 * random.normal(size=x.shape), jnp.float64), params)
        u, start = random.normal(size=(LENGTH, WIDTH)), random.random(LENGTH) < 0.05
        carry = jax.tree.map(lambda h: h.astype(jnp.float64) if h.dtype == jnp.float32 else h, mixer.initial_carry())
        found, _ = jax.jit(lambda params, u: nnx.merge(graphdef, params)(u, jnp.asarray(start), carry))(params, u)
        expected = LOOPS[name](jax.tree.map(np.asarray, nnx.to_pure_dict(params)), u, start)
        np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max(), rtol=0)
