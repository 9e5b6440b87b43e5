"""Beliefs of an agent that filters: all that can occur, or a sample of them; by step of the episode.

Beliefs that agree to nine decimals are one. A trial is many episodes of one task: what an episode tells of the task
stays, so that a family of several tasks has many beliefs at the start of an episode.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from icrl.planning.pomdp import Tables, Ways, begun, ways

MAX_BELIEFS = 50_000  # of all steps together, and
MAX_NUMBERS = 5_000_000  # in them
EPISODES = 4  # of a trial in which beliefs are sampled
POSSIBLE = 1e-12  # what is less probable is taken to be impossible
DECIMALS = 9

Policy = Callable[[int, np.ndarray], np.ndarray]  # (step of the episode, beliefs [n, S]) to actions [n]


def first_beliefs(tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Beliefs [m, S] after the first observation of a trial, and their probabilities [m], float64."""
    tasks = np.zeros((1, tables.num_states))
    tasks[0, tables.starts[:, 0]] = 1.0 / tables.num_tasks  # any state of a task stands for it
    found = [_conditioned(tasks, each) for each in begun(tables)]
    return np.concatenate([belief for belief, _, _ in found]), np.concatenate([prob for _, prob, _ in found])


def reachable(tables: Tables, horizon: int, episodes: int = 1) -> list[np.ndarray] | None:
    """All beliefs that can occur at each step, arrays [n, S]; None if they are too many.

    Args:
      tables: the POMDP.
      horizon: H, steps in an episode.
      episodes: E; there are E H arrays, for each step of each of E episodes in a row. With E = 1 there are H, and they
        hold what can occur at a step in any episode of a trial of any length.
    """
    every, steps = ways(tables), episodes * horizon
    most = min(MAX_BELIEFS, MAX_NUMBERS // tables.num_states)
    known: list[dict[bytes, np.ndarray]] = [{} for _ in range(steps)]
    pending: list[list[np.ndarray]] = [[] for _ in range(steps)]
    pending[0].append(_fresh(known[0], first_beliefs(tables)[0]))
    while any(pending):
        for t in (t for t in range(steps) if pending[t]):
            here, pending[t] = np.concatenate(pending[t]), []
            for after, matrix in _successions(every, t, horizon, episodes, tables.num_tasks):
                if len(fresh := _fresh(known[after], _conditioned(here, matrix)[0])):
                    pending[after].append(fresh)
                if sum(map(len, known)) > most:
                    return None
    first = next(iter(known[0].values()))  # where every episode is over sooner: at steps that nobody plays
    return [np.stack(list(each.values()) or [first]) for each in known]


def _successions(every: list[Ways], t: int, horizon: int, episodes: int, num_tasks: int) -> Iterator[tuple[int, Any]]:
    """(step that follows, matrix) for all that may be perceived after step ``t`` of E H."""
    is_last, afresh = (t + 1) % horizon == 0, (t // horizon + 1) * horizon if episodes > 1 else 0
    if num_tasks > 1 and afresh < episodes * horizon:
        yield from ((afresh, matrix) for each in every for matrix in (each.last if is_last else each.ended))
    if not is_last:
        yield from ((t + 1, matrix) for each in every for matrix in each.within)


def sampled(
    tables: Tables, horizon: int, num_beliefs: int, rng: np.random.Generator, policy: Policy
) -> list[np.ndarray]:
    """Beliefs at each step along ``num_beliefs`` random ways through a trial, H arrays [n, S]; none is there twice.

    Each way has a rate of its own, uniform in [0, 1], at which it acts at random instead of by ``policy``. A trial has
    one episode, of a family ``EPISODES``.
    """
    every = ways(tables)
    found: list[dict[bytes, np.ndarray]] = [{} for _ in range(horizon)]
    starts, weights = first_beliefs(tables)
    afresh = starts[rng.choice(len(starts), num_beliefs, p=weights)]
    rates = rng.random(num_beliefs)
    for _ in range(EPISODES if tables.num_tasks > 1 else 1):
        beliefs, goes_on = afresh.copy(), np.ones(num_beliefs, bool)
        for h in range(horizon):
            _fresh(found[h], beliefs[goes_on])
            at_random = rng.random(num_beliefs) < rates
            actions = np.where(at_random, rng.integers(tables.num_actions, size=num_beliefs), policy(h, beliefs))
            for action in np.unique(actions[goes_on]):
                mine = np.flatnonzero(goes_on & (actions == action))
                within = every[action].within if h + 1 < horizon else []
                over = every[action].ended if h + 1 < horizon else every[action].last
                after, drawn = _one_of(beliefs[mine], [*within, *over], rng)
                beliefs[mine], goes_on[mine] = after, drawn < len(within)
                afresh[mine] = after  # of those whose episode is over; the others are overwritten when theirs is
    first = next(iter(found[0].values()))
    return [np.stack(list(each.values()) or [first]) for each in found]


def _one_of(beliefs: np.ndarray, matrices: Sequence[Any], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One successor of each belief [n, S], drawn with its probability, and which of the ways it is, [n] int."""
    probs = np.stack([beliefs @ np.asarray(matrix.sum(1)) for matrix in matrices])  # [Y, n]
    level = rng.random(len(beliefs)) * probs.sum(0)
    drawn = np.argmax(np.cumsum(probs, axis=0) > level, axis=0)
    after = np.empty_like(beliefs)
    for way in np.unique(drawn):
        after[drawn == way] = _conditioned(beliefs[drawn == way], matrices[way])[0]
    return after, drawn


def _conditioned(beliefs: np.ndarray, matrix: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where what ``matrix`` stands for is possible: the beliefs after it, its probabilities, and of which ones."""
    prob = beliefs @ np.asarray(matrix.sum(1))
    which = np.flatnonzero(prob > POSSIBLE)
    return (beliefs[which] @ matrix) / prob[which, None], prob[which], which


def _fresh(known: dict[bytes, np.ndarray], beliefs: np.ndarray) -> np.ndarray:
    """Those of ``beliefs`` [n, S] that are not known yet, each once; they become known."""
    fresh = []
    for key, belief in zip(np.round(beliefs, DECIMALS) + 0.0, beliefs, strict=True):
        if (name := key.tobytes()) not in known:
            known[name] = belief
            fresh.append(belief)
    return np.stack(fresh) if fresh else beliefs[:0]
