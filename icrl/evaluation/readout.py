"""What a model reads off its context: how its logits follow the pulls and the successes of each arm of a bandit."""

import numpy as np

from icrl.core.types import History

TINY = float(np.finfo(np.float32).tiny)


def log_probs(probs: np.ndarray, least: float = TINY) -> np.ndarray:
    """Logarithms of probabilities [..., K], float64; of a model's its logits, but for what all arms share.

    Below ``least`` nothing is told apart: exact posteriors that are integrated on a grid are not exact there.
    """
    return np.log(np.maximum(probs.astype(np.float64), least))


def count_slopes(scores: np.ndarray, pulls: np.ndarray, successes: np.ndarray) -> np.ndarray:
    """Slopes [N, 2] of the scores in (pulls, successes), one estimate a context left out, rescaled to pseudo-values.

    Least squares of scores [N, K] on pulls and successes [N, K] of the arms, each centred within its context, as a
    softmax does not see what all arms have in common: the slope in n is at fixed S and t. Their mean over N is the
    jackknife's estimate, their spread its uncertainty (Efron, Stein 1981).
    """
    y, x = _centred(scores), np.stack([_centred(pulls), _centred(successes)], axis=-1)  # [N, K], [N, K, 2]
    square, product = np.einsum("nki,nkj->nij", x, x), np.einsum("nki,nk->ni", x, y)
    whole = np.linalg.solve(square.sum(0), product.sum(0))
    without = np.linalg.solve(square.sum(0) - square, (product.sum(0) - product)[..., None])[..., 0]
    return len(y) * whole - (len(y) - 1) * without


def counts(history: History, num_actions: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Pulls and sums of rewards [N, K] float64 of each arm in the first ``steps`` of histories [N, T]."""
    chosen = np.asarray(history.action)[:, :steps, None] == np.arange(num_actions)
    return chosen.sum(1, dtype=np.float64), (chosen * np.asarray(history.reward)[:, :steps, None]).sum(1)


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=1, keepdims=True)
