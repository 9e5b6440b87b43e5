"""Gittins indices of Bernoulli arms with a Beta prior (Gittins 1979, Bandit Processes and Dynamic Allocation Indices).

The index of an arm is the sure payment lambda per pull at which pulling it once more, and then as long as one likes,
is worth exactly as much as taking the payment. In units above the payment, with m the posterior mean,

    c(S, F) = m - lambda + discount (m D(S + 1, F) + (1 - m) D(S, F + 1)),  D = max(0, c),

and the index is the root of c in lambda, of which it is a convex and falling function.
"""

import math
from functools import cache

import numpy as np

from icrl.core.errors import require_float, require_int

PAYMENTS = 1000  # intervals of the grid of lambdas, between two of which c is taken as linear
SIDE_BY_SIDE = 20  # of them treated at once, so that they stay in a core's cache
FORGOTTEN = 1e-3  # discount^depth of the lookahead behind the table; then D = max(0, m - lambda) / (1 - discount)
MAX_DISCOUNT = 0.998
MAX_PULLS = 2000


@cache
def gittins_table(discount: float, max_pulls: int, prior_a: float = 1.0, prior_b: float = 1.0) -> np.ndarray:
    """Index after S successes and F failures, [max_pulls + 1, max_pulls + 1] float64; NaN where S + F > max_pulls.

    Within 1e-5 of a far finer computation in the first few pulls and within 2e-4 up to 200 pulls (tried for discounts
    up to 0.99, 2026-11-24). Takes 0.1 s for discount 0.9 and 10 pulls, 4 s for 0.99 and 200; kept for the next caller.

    Args:
      discount: in [0, 0.998].
      max_pulls: of one arm, in [0, 2000].
      prior_a, prior_b: mu ~ Beta(prior_a, prior_b), > 0.
    """
    discount = require_float("discount", discount, 0.0, MAX_DISCOUNT)
    max_pulls = require_int("max_pulls", max_pulls, 0, MAX_PULLS)
    prior_a = require_float("prior_a", prior_a, 0.0, open_low=True)
    prior_b = require_float("prior_b", prior_b, 0.0, open_low=True)
    table = np.full((max_pulls + 1, max_pulls + 1), np.nan)
    # denser towards 0 and 1, as are the laws of mu: about 1 / n wide there, 1 / sqrt(n) elsewhere
    payments = np.square(np.sin(np.linspace(0.0, np.pi / 2, PAYMENTS + 1)))
    for first in range(0, PAYMENTS, SIDE_BY_SIDE):
        _fill(table, payments[first : first + SIDE_BY_SIDE + 1, None], discount, prior_a, prior_b)
    table.setflags(write=False)
    return table


def _fill(table: np.ndarray, payment: np.ndarray, discount: float, prior_a: float, prior_b: float) -> None:
    """Write the indices that lie between the first and the last ``payment`` [L, 1]."""
    max_pulls = len(table) - 1
    depth = math.ceil(math.log(FORGOTTEN) / math.log(discount)) if discount > 0 else 0
    last = max_pulls + depth + 1
    worth = np.maximum(_mean(last, prior_a, prior_b) - payment, 0.0) / (1.0 - discount)  # D [L, S = 0 .. n]
    for n in range(last - 1, -1, -1):
        mean = _mean(n, prior_a, prior_b)
        going_on = mean - payment + discount * (mean * worth[:, 1:] + (1.0 - mean) * worth[:, :-1])
        if n <= max_pulls:
            successes = np.flatnonzero((going_on[0] > 0.0) & (going_on[-1] <= 0.0))
            table[successes, n - successes] = _root(going_on[:, successes], payment[:, 0])
        worth = np.maximum(going_on, 0.0)


def _mean(n: int, prior_a: float, prior_b: float) -> np.ndarray:
    """Posterior mean after n pulls with S = 0 .. n successes, [n + 1]."""
    return (prior_a + np.arange(n + 1)) / (prior_a + prior_b + n)


def _root(falling: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Where each column of ``falling`` [L, M] over ``grid`` [L] crosses zero, [M]; first > 0 >= last."""
    right = np.argmax(falling <= 0.0, axis=0)
    columns = np.arange(falling.shape[1])
    above, below = falling[right - 1, columns], falling[right, columns]
    return grid[right - 1] + (grid[right] - grid[right - 1]) * above / (above - below)
