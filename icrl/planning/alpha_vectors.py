"""Finite-horizon value iteration on alpha vectors: a POMDP's optimal values are maxima of linear functions of belief.

    V_h(b) = max_a b . r_a + discount sum_y max_{alpha in G_{h+1}} b M_{a,y} alpha,     V_H = 0

(Smallwood and Sondik 1973), where M_{a,y}[s, s'] = P(s', y | s, a) and y is all that is perceived after a step:
observation, reward, and whether the episode is over. G_h is a set of vectors for each step. ``plan_at`` keeps the best
vector at each of given beliefs; ``plan_everywhere`` all that are best anywhere in the simplex. Float64 on the host,
before anything is compiled.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import linprog

from icrl.core import struct
from icrl.core.errors import InputError
from icrl.planning.pomdp import Tables, ways

MAX_NUMBERS = 2**26  # of a plan, H x V x S
MAX_VECTORS = 2000  # of a step in ``plan_everywhere``, before they are pruned
TIE = 1e-9  # values nearer than this are equal
NUM_GUESSES = 400  # beliefs at which vectors are compared before linear programs are

Sets = list[tuple[np.ndarray, np.ndarray]]  # for each step alphas [V, S] float64 and their actions [V] int


@struct.dataclass
class Plan:
    """Vectors by step of the episode, filled up with copies of a step's first one; V at most."""

    alphas: np.ndarray  # [H, V, S] float32
    actions: np.ndarray  # [H, V] int32
    value: float = struct.field(pytree_node=False)  # what it earns at least, on average over tasks and draws
    upper: float = struct.field(pytree_node=False)  # what any policy earns at most; of an exact plan the same

    @classmethod
    def none(cls) -> "Plan":
        """One that stands for a plan still to be made."""
        return cls(np.zeros((1, 1, 1), np.float32), np.zeros((1, 1), np.int32), 0.0, 0.0)


def plan_at(tables: Tables, beliefs: Sequence[np.ndarray], horizon: int, discount: float = 1.0) -> Sets:
    """The best vectors at ``beliefs``: E H arrays [n, S] float64, those of each step of E episodes in a row.

    Exact at these beliefs if each step's contain all that can follow from those of the step before; a lower bound
    everywhere, which the plan's actions attain. Nothing follows the last of the episodes.
    """
    every, rewards = ways(tables), tables.expected_reward()
    sets: Sets = []
    nothing = np.zeros((1, tables.num_states))
    following = afresh = nothing  # the vectors of the step to come, and of the first step of the next episode
    for t in reversed(range(len(beliefs))):
        is_last = (t + 1) % horizon == 0
        if is_last:
            afresh = sets[-1][0] if sets else nothing
        backed = []
        for reward, each in zip(rewards, every, strict=True):
            over = _ahead(each.last if is_last else each.ended, afresh, discount)
            backed.append(
                _backup(beliefs[t], reward, [*over, *([] if is_last else _ahead(each.within, following, discount))])
            )
        q = np.stack([np.sum(beliefs[t] * vectors, axis=-1) for vectors in backed], axis=-1)  # [n, K]
        best = np.argmax(q >= q.max(-1, keepdims=True) - TIE, axis=-1)
        vectors = np.stack(backed)[best, np.arange(len(best))]
        different = _first_rows(vectors, best)
        following = vectors[different]
        sets.append((following, best[different]))
    return sets[::-1]


def plan_everywhere(tables: Tables, horizon: int, discount: float = 1.0) -> Sets:
    """All vectors that are best at some belief, for the H steps of one episode: exact wherever a belief may lie.

    By incremental pruning (Cassandra, Littman and Zhang 1997). Raises ``InputError`` when a step would have more than
    ``MAX_VECTORS``.
    """
    every, rewards = ways(tables), tables.expected_reward()
    sets: Sets = []
    following = np.zeros((1, tables.num_states))
    for h in range(horizon):
        candidates = []
        for reward, each in zip(rewards, every, strict=True):
            vectors = reward[None]
            for ahead in _ahead(each.within if h else [], following, discount):
                sums = (vectors[:, None] + pruned(ahead.T)[None]).reshape(-1, tables.num_states)
                vectors = pruned(_within(sums))
            candidates.append(vectors)
        together = np.concatenate(candidates)
        actions = np.repeat(np.arange(len(candidates)), [len(each) for each in candidates])
        kept = best_somewhere(together)
        sets.append((together[kept], actions[kept]))
        following = together[kept]
    return sets[::-1]


def pruned(vectors: np.ndarray) -> np.ndarray:
    """Those of ``vectors`` [V, S] that are best at some belief."""
    return vectors[best_somewhere(vectors)]


def best_somewhere(vectors: np.ndarray) -> np.ndarray:
    """Numbers of a smallest set of ``vectors`` [V, S] whose maximum is that of all of them at every belief, ascending.

    First those that are best at corners and at beliefs of a fixed sample; of the others, which are not below another
    one everywhere, a linear program finds a belief at which one is best, or that there is none (Lark, in White 1991).
    """
    num_states = vectors.shape[1]
    guesses = np.random.default_rng(0).dirichlet(np.full(num_states, 0.5), NUM_GUESSES)
    kept = list(dict.fromkeys(np.argmax(np.concatenate([np.eye(num_states), guesses]) @ vectors.T, axis=1).tolist()))
    left = [i for i in range(len(vectors)) if i not in set(kept)]
    while left:
        candidate = left[-1]
        dominated = np.any(np.all(vectors[kept] >= vectors[candidate] - TIE, axis=1))
        belief = None if dominated else _where_better(vectors[candidate], vectors[kept])
        if belief is None:
            left.pop()
            continue
        best = left[int(np.argmax(vectors[left] @ belief))]
        kept.append(best)
        left.remove(best)
    return np.array(sorted(kept))


def padded(sets: Sets, value: float, upper: float) -> Plan:
    """The vectors of all steps in arrays of one shape; more than ``MAX_NUMBERS`` numbers raise ``InputError``."""
    width, (_, num_states) = max(len(alphas) for alphas, _ in sets), sets[0][0].shape
    if len(sets) * width * num_states > MAX_NUMBERS:
        raise InputError(
            f"plan: got {len(sets)} steps x {width} vectors x {num_states} states, allowed: at most {MAX_NUMBERS:,} "
            "numbers (this agent needs a smaller POMDP or a shorter horizon)"
        )
    alphas = np.stack([each[_filled(len(each), width)] for each, _ in sets])
    actions = np.stack([each[_filled(len(each), width)] for _, each in sets])
    return Plan(alphas.astype(np.float32), actions.astype(np.int32), value, upper)


def value_of(alphas: np.ndarray, beliefs: np.ndarray) -> np.ndarray:
    """max_alpha b . alpha at beliefs [n, S], [n] float64."""
    values: np.ndarray = (beliefs @ alphas.T).max(-1)
    return values


def _ahead(matrices: Sequence[Any], following: np.ndarray, discount: float) -> list[np.ndarray]:
    """What ``following`` [V, S] is worth one step earlier, after each thing that may be perceived, [S, V] each."""
    if not following.any():
        return []
    return [discount * (matrix @ following.T) for matrix in matrices]


def _backup(beliefs: np.ndarray, reward: np.ndarray, ahead: list[np.ndarray]) -> np.ndarray:
    """The best vector of one action at each of ``beliefs`` [n, S], [n, S]."""
    # where something cannot be perceived any vector may follow it: the first one does
    vectors = np.repeat((reward + sum(each[:, 0] for each in ahead))[None], len(beliefs), axis=0)
    for each in ahead:
        touched = np.flatnonzero(beliefs @ np.any(each, axis=1) > 0.0)
        chosen = np.argmax(beliefs[touched] @ each, axis=1)
        vectors[touched] += (each[:, chosen] - each[:, :1]).T
    return vectors


def _first_rows(vectors: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Where each different pair of a vector [n, S] and its action [n] occurs first, ascending."""
    keys = np.ascontiguousarray(np.concatenate([np.round(vectors, 9) + 0.0, actions[:, None]], axis=1))
    packed = keys.view(np.dtype((np.void, keys.dtype.itemsize * keys.shape[1]))).reshape(-1)
    return np.sort(np.unique(packed, return_index=True)[1])


def _within(vectors: np.ndarray) -> np.ndarray:
    """``vectors`` without copies, if they are not too many."""
    different = np.unique(np.round(vectors, 12), axis=0, return_index=True)[1]
    if len(different) > MAX_VECTORS:
        raise InputError(f"plan: more than {MAX_VECTORS} vectors at a step (this agent needs a smaller POMDP)")
    return vectors if len(different) == len(vectors) else vectors[np.sort(different)]


def _where_better(vector: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """A belief [S] at which ``vector`` is better than all ``others`` [V, S], or None: max d, b . (v - w) >= d."""
    num_states = len(vector)
    above = np.concatenate([others - vector, np.ones((len(others), 1))], axis=1)
    found = linprog(
        np.append(np.zeros(num_states), -1.0),
        A_ub=above,
        b_ub=np.zeros(len(others)),
        A_eq=np.append(np.ones(num_states), 0.0)[None],
        b_eq=[1.0],
        bounds=[*[(0.0, 1.0)] * num_states, (None, None)],
    )
    return found.x[:-1] if found.success and found.x[-1] > TIE else None


def _filled(count: int, width: int) -> np.ndarray:
    return np.where(np.arange(width) < count, np.arange(width), 0)
