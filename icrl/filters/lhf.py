"""Learning history filtering: histories that improve much and seldom fall back are seen more often.

Chen, Zhang, Subramanian, Paternain 2025, "Filtering Learning Histories Enhances In-Context Reinforcement Learning"
(arXiv 2505.15143), sections 4 and 5.4 and algorithm 1. Letters as in the paper: U = Improvement + lambda Stability
scores a history, P retains it, alpha is the temperature of the softmax variant.

The paper leaves these cases open; here

- a history without a falling return has Stability 1, so also one of a single episode;
- histories of a task that all score alike are all retained with P = 1 (0/0 in the formula, and algorithm 1 would
  never end), so a task with one history keeps it;
- ``R_k`` and Rmax count from the smallest return of the task, Rmin, so that negative returns are no special case;
- a task with Rmax = Rmin, in which nothing can be gained, is refused.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import filters
from icrl.filters._table import Filter, Floats, HistoryTable, Ints, Selection, checked, groups, span, whole

ALIKE = 1e-12  # scores closer than this (relative to U) differ by rounding only; min-max would blow that up to 0 and 1


@filters.register("lhf", paper="Chen et al. 2025")
@dataclasses.dataclass(frozen=True)
class LHF(Filter):
    """Refills every task to the size it had, with histories retained with probability P.

    The number of times a history stands in the result is about proportional to P; the best one of a task enters on
    every pass over the task, the worst one never.
    """

    lam: float = setting(
        1.0, low=0.0, high=1e6, help="lambda, weight of stability; the paper has 1, and tries 0 to 1000"
    )
    retention: str = setting("linear", choices=("linear", "softmax"), help="how P follows from U")
    alpha: float = setting(
        0.125,
        low=1e-6,
        high=1e6,
        help="temperature of softmax, in units of U; the paper tries 1/16 to 1",
    )
    # Algorithm 1 scans a task in the order of its rows ("paper"). As it stops when the task is full, which is mostly
    # inside a pass, it favours early rows; a fresh random order in each pass ("shuffled") favours none.
    order: str = setting(
        "shuffled",
        choices=("shuffled", "paper"),
        help="order in which a pass scans a task: random, or that of its rows",
    )

    def select(self, table: HistoryTable, rng: np.random.Generator) -> Selection:
        p = self.retention_probability(table)
        return whole(refill(p, groups(checked(table).task), rng, shuffled=self.order == "shuffled").rows)

    def score(self, table: HistoryTable) -> Floats:
        """U [N]; in [0, 1 + lambda] where no return lies above Rmax."""
        return unified_score(table, self.lam)

    def retention_probability(self, table: HistoryTable) -> Floats:
        """P [N] in [0, 1]; every task has a history with P = 1."""
        score, task = self.score(table), checked(table).task
        return (
            linear_retention(score, task) if self.retention == "linear" else softmax_retention(score, task, self.alpha)
        )


def improvement(table: HistoryTable) -> Floats:
    """(mean_k R_k + max_k R_k - min_k R_k) / (2 Rmax) [N], section 4; both R_k and Rmax counted from Rmin."""
    table = checked(table)
    gained = table.returns.mean(1) - table.minimal_return
    # Rmin cancels in the difference
    return (gained + table.returns.max(1) - table.returns.min(1)) / (2.0 * span(table))


def stability(table: HistoryTable) -> Floats:
    """1 + D / Rmax [N], section 4; D <= 0 is the mean of the negative ones among R_{k+1} - R_k, 0 if there is none."""
    table = checked(table)
    change = np.diff(table.returns, axis=1)
    falls = np.minimum(change, 0.0).sum(1)
    mean_fall = falls / np.maximum(np.count_nonzero(change < 0.0, axis=1), 1)
    return 1.0 + mean_fall / span(table)


def unified_score(table: HistoryTable, lam: float = 1.0) -> Floats:
    """U = Improvement + lambda Stability [N], section 4."""
    return improvement(table) + lam * stability(table)


def linear_retention(score: Floats, task: Ints) -> Floats:
    """P = (U - min U) / (max U - min U) [N] from U [N], min and max over the histories of the same task; section 4.

    Inside a task U is affine in 1/Rmax, so that P does not depend on Rmax.
    """
    above_worst, below_best, width = _place_in_task(score, task)
    del below_best
    return np.where(width > 0, above_worst / np.where(width > 0, width, 1.0), 1.0)


def softmax_retention(score: Floats, task: Ints, alpha: float) -> Floats:
    """The same min-max of exp(U / alpha) / sum exp(U / alpha) in place of U: [N] to [N], section 5.4.

    The sum cancels. Rmax matters only through alpha Rmax: half of one is as good as half of the other.
    """
    above_worst, below_best, width = _place_in_task(score, task)
    # with b = U - max U and w = max U - min U: (e^(b/alpha) - e^(-w/alpha)) / (1 - e^(-w/alpha)), written so that no
    # exponent is positive and nothing cancels for large alpha
    rise = np.expm1(-above_worst / alpha) / np.expm1(-np.where(width > 0, width, 1.0) / alpha)
    return np.where(width > 0, np.exp(below_best / alpha) * rise, 1.0)


class Refilled(NamedTuple):
    """What ``refill`` put together, task after task as it was drawn, and how long it took."""

    rows: Ints  # [N] as many of each task as before
    num_draws: Ints  # [K] how many v were drawn for each task


def refill(p: Floats, group: Ints, rng: np.random.Generator, *, shuffled: bool) -> Refilled:
    """The loop of algorithm 1 for all tasks at once, pass by pass.

    ``p`` [N] in [0, 1] are the retention probabilities, ``group`` [N] in 0 .. K-1 the tasks. In every pass over a task
    each of its histories is retained if v ~ U[0, 1] falls below its P, until the task is full. ``shuffled`` draws a
    new order for each pass. A task without any positive P raises ``InputError``; one with P = 1 somewhere takes
    at most as many passes as it has histories.
    """
    unfilled = np.bincount(group)
    possible = np.bincount(group, p > 0) > 0
    require(bool(possible.all()), "p", f"no positive one in group {np.argmin(possible)}", "one in every group")
    num_draws = np.zeros_like(unfilled)
    rows = np.argsort(group, kind="stable")
    kept = []
    while rows.size:
        if shuffled:
            rows = rows[np.lexsort((rng.random(rows.size), group[rows]))]
        of = group[rows]
        # v lies in [0, 1): with "<" a history with P = 1 always enters and one with P = 0 never does
        retained = rng.random(rows.size) < p[rows]
        before = _count_before(retained, of)
        scanned = before < unfilled[of]  # where algorithm 1 still runs
        taken = retained & scanned
        kept.append(rows[taken])
        num_draws += np.bincount(of[scanned], minlength=len(unfilled))
        unfilled -= np.bincount(of[taken], minlength=len(unfilled))
        rows = rows[unfilled[of] > 0]
    return Refilled(np.concatenate(kept).astype(np.int64), num_draws.astype(np.int64))


def _count_before(flag: NDArray[np.bool_], of: Ints) -> Ints:
    """For each row how many flags stand before it in its run of equal ``of``."""
    before: Ints = np.cumsum(flag) - flag
    starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
    return before - np.repeat(before[starts], np.diff(np.r_[starts, len(of)]))


def _place_in_task(score: Floats, task: Ints) -> tuple[Floats, Floats, Floats]:
    """U - min U, U - max U and max U - min U, each [N] and inside the task; width 0 where all score alike."""
    group = groups(task)
    low, high = np.full(group.max() + 1, np.inf), np.full(group.max() + 1, -np.inf)
    np.minimum.at(low, group, score)
    np.maximum.at(high, group, score)
    width = np.where(high - low > ALIKE * np.maximum(1.0, np.abs(high)), high - low, 0.0)
    return score - low[group], score - high[group], width[group]
