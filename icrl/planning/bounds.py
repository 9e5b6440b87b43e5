"""What a POMDP too large for an exact plan is worth at least and at most: point-based plans, and a fast upper bound.

Lower: point-based value iteration (Pineau, Gordon and Thrun 2003) at beliefs along random and planned ways. Upper: the
fast informed bound (Hauskrecht 2000), which is at most that of QMDP (Littman, Cassandra and Kaelbling 1995):

    Q_h(s, a) = r(s, a) + discount sum_y max_a' sum_s' P(s', y | s, a) Q_{h+1}(s', a')
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from icrl.planning.alpha_vectors import Sets, plan_at, value_of
from icrl.planning.pomdp import Tables, ways
from icrl.planning.reachable_beliefs import first_beliefs, sampled

ROUNDS = 3  # of sampling beliefs and planning at all of them


class Bounds(NamedTuple):
    """What the optimal policy earns in the first episode lies between ``lower`` and ``upper``."""

    lower: float  # what the plan earns at least
    upper: float

    @property
    def gap(self) -> float:
        """How far the plan may be from the optimum."""
        return self.upper - self.lower


def point_based(tables: Tables, horizon: int, num_beliefs: int) -> tuple[Sets, Bounds]:
    """A plan for H steps at the beliefs along ``num_beliefs`` ways a round, and how good it is.

    The ways of the first round follow QMDP, the later ones the plan so far. Nothing here depends on a seed.
    """
    rng, q = np.random.default_rng(0), informed_values(tables, horizon)
    beliefs = sampled(tables, horizon, num_beliefs, rng, lambda h, b: np.argmax(b @ q[h], axis=1))
    for _ in range(ROUNDS - 1):
        sets = plan_at(tables, beliefs, horizon)
        more = sampled(tables, horizon, num_beliefs, rng, partial(planned, sets))
        beliefs = [np.concatenate(each) for each in zip(beliefs, more, strict=True)]
    sets = plan_at(tables, beliefs, horizon)
    return sets, Bounds(start_value(tables, sets[0][0]), start_value(tables, q[0].T))


def planned(sets: Sets, h: int, beliefs: np.ndarray) -> np.ndarray:
    """The actions [n] of a plan at beliefs [n, S] at step h."""
    alphas, actions = sets[h]
    chosen: np.ndarray = actions[np.argmax(beliefs @ alphas.T, axis=1)]
    return chosen


def informed_values(tables: Tables, horizon: int, discount: float = 1.0) -> np.ndarray:
    """The fast informed bound Q [H, S, K] float64: max_a b . Q_h(., a) is no less than the optimal value at b."""
    every, rewards = ways(tables), tables.expected_reward()
    q = np.zeros((horizon + 1, tables.num_states, tables.num_actions))
    for h in reversed(range(horizon)):
        for action, each in enumerate(every):
            ahead = sum((matrix @ q[h + 1]).max(-1) for matrix in each.within)
            q[h, :, action] = np.where(tables.ends, 0.0, rewards[action] + discount * ahead)
    return q[:-1]


def start_value(tables: Tables, alphas: np.ndarray) -> float:
    """What vectors [V, S] of the first step say of an episode's return under the prior over tasks."""
    beliefs, weights = first_beliefs(tables)
    return float(weights @ value_of(alphas, beliefs))
