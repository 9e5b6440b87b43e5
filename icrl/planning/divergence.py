"""Divergences of distributions, and the least regret that any good policy must have (Lai, Robbins 1985)."""

from typing import Any

import numpy as np

from icrl.core.errors import require, require_float
from icrl.core.floats import finite_floats

FLOOR = 1e-3  # share of the uniform distribution in every one that is compared: some know choices to be impossible
BISECTIONS = 60  # halvings of an interval no longer than 1, beyond float64's spacing


def bernoulli_kl(p: np.ndarray | float, q: np.ndarray | float) -> np.ndarray:
    """kl(p, q) = p ln(p/q) + (1-p) ln((1-p)/(1-q)) in nats, with 0 ln 0 = 0; broadcasts, float64."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    return _x_log_ratio(p, q) + _x_log_ratio(1.0 - p, 1.0 - q)


def _x_log_ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x == 0.0, 0.0, x * np.log(x / y))


def symmetrised_kl(p: Any, q: Any) -> Any:
    """(KL(p | q) + KL(q | p)) / 2 in nats of distributions [..., K], [...]; arrays of NumPy or of jax, and as those.

    Both are mixed with ``FLOOR`` of the uniform distribution.
    """
    xp = p.__array_namespace__()
    p, q = ((1 - FLOOR) * x + FLOOR / x.shape[-1] for x in (p, q))
    return xp.sum((p - q) * xp.log(p / q), axis=-1) / 2


def kl_upper(mean: np.ndarray | float, budget: np.ndarray | float) -> np.ndarray:
    """The largest q in [mean, 1] with kl(mean, q) <= budget, by bisection (Garivier, Cappe 2011); broadcasts."""
    low, budget = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(budget, np.float64))
    mean, high = low, np.ones_like(low)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        inside = bernoulli_kl(mean, middle) <= budget
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low


def lai_robbins_bernoulli(means: np.ndarray) -> float:
    """Sum over worse arms of (mu* - mu_a) / kl(mu_a, mu*): liminf of regret / ln T for consistent policies.

    ``means`` [K] are success probabilities with the largest below 1, else there is no such bound.
    """
    means = _checked(means)
    require(bool(means.min() >= 0.0 and means.max() < 1.0), "means", means.tolist(), "probabilities below 1")
    gaps = means.max() - means
    worse = gaps > 0
    return float(np.sum(gaps[worse] / bernoulli_kl(means[worse], means.max())))


def lai_robbins_gaussian(means: np.ndarray, noise_std: float) -> float:
    """The same for rewards N(mu_a, noise_std^2): sum over worse arms of 2 noise_std^2 / (mu* - mu_a)."""
    means = _checked(means)
    noise_std = require_float("noise_std", noise_std, 0.0)
    gaps = means.max() - means
    return float(np.sum(2.0 * noise_std**2 / gaps[gaps > 0]))


def _checked(means: np.ndarray) -> np.ndarray:
    means = finite_floats("means", means)
    require(means.ndim == 1 and means.size > 0, "means", f"shape {means.shape}", "one number for each arm")
    return means
