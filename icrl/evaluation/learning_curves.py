"""Comparing two learning curves: how much better one is over all test episodes, raw and as papers plot it.

Letters: S runs (training seeds, or seeds x tasks), E test episodes in order.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from icrl.core.errors import require, require_int
from icrl.core.floats import finite_floats

Floats = NDArray[np.float64]


def trailing_mean(curve: ArrayLike, window: int = 20) -> Floats:
    """Mean of each point and the ``window`` - 1 before it: [..., E] to [..., E].

    The first points have less before them and are the mean of what there is. The figures of Chen et al. 2025 (arXiv
    2505.15143) are smoothed so over 20 episodes, and the text's scores are computed on the smoothed curves.
    """
    values = finite_floats("curve", curve)
    require(values.ndim >= 1 and values.shape[-1] >= 1, "curve.shape", values.shape, "[..., E] with E >= 1 episodes")
    window = require_int("window", window, 1, 2**31 - 1)
    total = np.cumsum(values, axis=-1)
    total[..., window:] = total[..., window:] - total[..., :-window]  # the right side is a copy
    return total / np.minimum(np.arange(1, values.shape[-1] + 1), window)


def relative_enhancement(filtered: ArrayLike, base: ArrayLike, window: int | None = None) -> float:
    """(Rbar(filtered) - Rbar(base)) / Rbar(base), the score E of Chen et al. 2025, section 5; 0.1 is 10 %.

    ``filtered`` and ``base`` [S, E] hold returns; each has its own S. Rbar is the mean over all runs and all test
    episodes, so it rewards learning fast as much as ending high. ``window`` smooths both with ``trailing_mean`` first,
    which weighs early episodes more: the paper's tables have window 20. Report both. A base whose mean is not positive
    raises ``InputError``: there is nothing to be relative to.
    """
    curves = {"filtered": finite_floats("filtered", filtered), "base": finite_floats("base", base)}
    for field, values in curves.items():
        require(values.ndim == 2 and values.size > 0, f"{field}.shape", values.shape, "[S, E], S >= 1, E >= 1")
    same = curves["filtered"].shape[1] == curves["base"].shape[1]
    require(same, "base.shape", curves["base"].shape, f"as many episodes as filtered, {curves['filtered'].shape[1]}")
    if window is not None:
        curves = {field: trailing_mean(values, window) for field, values in curves.items()}
    reference = float(curves["base"].mean())
    require(reference > 0, "base", f"mean return {reference:g}", "a positive mean return", "report the difference")
    return (float(curves["filtered"].mean()) - reference) / reference
