"""Histories as somebody else may have recorded them."""

import numpy as np

from icrl.core.types import EnvSpec

N, R, T, H, K = 5, 3, 24, 6, 3
SPEC = EnvSpec("Elsewhere", K, (2,), 0, 3, H, (4, 4))


def arrays(seed=0, **changes):
    draw = np.random.default_rng(seed)
    ends = np.broadcast_to(np.arange(T) % H == H - 1, (N, R, T))
    made = {
        "observations": draw.integers(0, 4, (N, R, T, 2)),
        "actions": draw.integers(0, K, (N, R, T)),
        "rewards": draw.normal(size=(N, R, T)),
        "terminated": np.zeros_like(ends),
        "truncated": ends,
    }
    return {**made, **changes}
