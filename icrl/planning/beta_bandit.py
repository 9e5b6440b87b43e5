"""Bayes-optimal play for K Bernoulli arms with a common Beta prior and T pulls, by backward induction over counts.

    V_t(counts) = max_a p_a (1 + V_{t+1}(success of a)) + (1 - p_a) V_{t+1}(failure of a),   V_T = 0,
    p_a = (prior_a + S_a) / (prior_a + prior_b + S_a + F_a)

Arms are exchangeable, so counts that differ only in which arm is which are one node: K codes in ascending order, with
code n (n + 1) / 2 + S for an arm of n pulls and S successes. The r-th of them is "the arm of rank r".
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from icrl.core.errors import InputError, require_float, require_int

MAX_NODES = 3_000_000


class CountGraph(NamedTuple):
    """All counts that 0 .. T pulls can lead to, as nodes numbered by pulls; N in all, node 0 before the first pull."""

    first: np.ndarray  # [T + 2], pulls t has the nodes first[t] .. first[t + 1] - 1
    codes: np.ndarray  # [N, K] int64, ascending
    child: np.ndarray  # [N, K, 2] int32, node after a failure, a success of the arm of each rank; itself after T pulls

    @property
    def horizon(self) -> int:
        """T."""
        return len(self.first) - 2


def num_nodes(num_arms: int, horizon: int) -> int:
    """N of ``count_graph(num_arms, horizon)``, from counting multisets."""
    ways = np.zeros((num_arms + 1, horizon + 1), dtype=object)  # of having k arms with t pulls in all
    ways[0, 0] = 1
    for pulls in range(horizon + 1):  # arms with so many pulls have pulls + 1 codes
        longer = np.zeros_like(ways)
        for arms in range(num_arms + 1):
            if arms * pulls <= horizon:
                many = math.comb(pulls + arms, arms)
                longer[arms:, arms * pulls :] += many * ways[: num_arms + 1 - arms, : horizon + 1 - arms * pulls]
        ways = longer
    return int(ways[num_arms].sum())


@cache
def count_graph(num_arms: int, horizon: int) -> CountGraph:
    """The graph for K = ``num_arms`` and T = ``horizon``; what would be too large raises ``InputError``."""
    num_arms, horizon = require_int("num_arms", num_arms, 1, 2**31), require_int("horizon", horizon, 1, 2**31)
    radix = (horizon + 1) * (horizon + 2) // 2  # codes are smaller
    if radix ** min(num_arms, 63) >= 2**63 or num_nodes(num_arms, horizon) > MAX_NODES:
        raise InputError(
            f"num_arms, horizon: got {num_arms}, {horizon}, allowed: what needs at most {MAX_NODES:,} sets of "
            "counts (this agent needs them all), such as 2 arms and 100 pulls, 5 and 20, or 10 and 11"
        )
    weights = radix ** np.arange(num_arms, dtype=np.int64)
    codes, children, first = [np.zeros((1, num_arms), np.int64)], [], [0, 1]
    for _ in range(horizon):
        ahead = _children(codes[-1]).reshape(-1, num_arms)
        keys, child = np.unique(ahead @ weights, return_inverse=True)
        children.append(first[-1] + child.reshape(len(codes[-1]), num_arms, 2))
        codes.append(keys[:, None] // weights % radix)
        first.append(first[-1] + len(keys))
    stay = np.arange(first[-2], first[-1])[:, None, None]
    children.append(np.broadcast_to(stay, (len(codes[-1]), num_arms, 2)))
    return CountGraph(np.array(first), np.concatenate(codes), np.concatenate(children).astype(np.int32))


def _children(codes: np.ndarray) -> np.ndarray:
    """Codes [M, K, 2, K] after a failure or a success of the arm of each rank."""
    num_nodes, num_arms = codes.shape
    pulls, _ = pulls_and_successes(codes)
    ahead = np.broadcast_to(codes[:, None, None, :], (num_nodes, num_arms, 2, num_arms)).copy()
    for rank in range(num_arms):
        # one pull more moves a code past the n + 1 codes of its row, a success one further
        ahead[:, rank, :, rank] += pulls[:, rank, None] + np.array([1, 2])
    return np.sort(ahead, axis=-1)


def pulls_and_successes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pulls n and successes S of ``codes`` [...], int64."""
    pulls = ((np.sqrt(8.0 * codes + 1.0) - 1.0) / 2.0).astype(np.int64)  # exact: at n (n + 1) / 2 the root is whole
    return pulls, codes - pulls * (pulls + 1) // 2


@cache
def bayes_optimal(
    num_arms: int, horizon: int, prior_a: float = 1.0, prior_b: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Expected reward to come [N] float64, and the best rank [N] int32 (the lowest of several), in every node.

    Element 0 of the first is the most that any policy can earn in T pulls on average over the prior. Nodes without
    pulls left have value 0, and the rank of the largest posterior mean.
    """
    graph = count_graph(num_arms, horizon)
    reward = success_prob(graph, prior_a, prior_b)
    value, rank = np.zeros(len(reward)), reward.argmax(-1).astype(np.int32)
    for nodes in _backwards(graph):
        q = _lookahead(graph, value, reward, nodes)
        rank[nodes], value[nodes] = q.argmax(-1), q.max(-1)
    return value, rank


def expected_reward(graph: CountGraph, probs: np.ndarray, prior_a: float = 1.0, prior_b: float = 1.0) -> float:
    """Expected total reward over T pulls of the policy that plays the arm of each rank with ``probs`` [N, K]."""
    reward = success_prob(graph, prior_a, prior_b)
    value = np.zeros(len(reward))
    for nodes in _backwards(graph):
        value[nodes] = np.sum(probs[nodes] * _lookahead(graph, value, reward, nodes), axis=-1)
    return float(value[0])


def success_prob(graph: CountGraph, prior_a: float = 1.0, prior_b: float = 1.0) -> np.ndarray:
    """Posterior mean p of the arm of each rank, [N, K] float64."""
    prior_a = require_float("prior_a", prior_a, 0.0, open_low=True)
    prior_b = require_float("prior_b", prior_b, 0.0, open_low=True)
    pulls, successes = pulls_and_successes(graph.codes)
    return (prior_a + successes) / (prior_a + prior_b + pulls)


def _backwards(graph: CountGraph) -> list[slice]:
    """Nodes with T - 1, T - 2, ..., 0 pulls."""
    return [slice(graph.first[t], graph.first[t + 1]) for t in range(graph.horizon - 1, -1, -1)]


def _lookahead(graph: CountGraph, value: np.ndarray, reward: np.ndarray, nodes: slice) -> np.ndarray:
    """Q [M, K] of pulling the arm of each rank in ``nodes``, given the values of the nodes ahead."""
    failure, success = np.moveaxis(value[graph.child[nodes]], -1, 0)
    return reward[nodes] * (1.0 + success) + (1.0 - reward[nodes]) * failure
