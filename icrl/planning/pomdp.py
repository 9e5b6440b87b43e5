"""Finite POMDPs as tables on the host: several known tasks at once, successors and observations as short lists.

Letters: N tasks, S states of all tasks together, K actions, O observations; B successors of a pair and M observations
of a state at most, D starts of a task at most. No successor of a state belongs to another task, so a belief over the S
states is a belief over (task, state) jointly.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from icrl.core import struct
from icrl.core.errors import require

TOLERANCE = 1e-6  # of the sum of a row of probabilities
SAME_REWARD = 1e-5  # rewards nearer than this, relative to their size, are one and the same to a belief
MAX_STATES = 2**14

State = Hashable
Outcomes = Sequence[tuple[float, Any, float]]  # (probability, next state, reward)
Signals = Sequence[tuple[float, int]]  # (probability, number of the observation)


@struct.dataclass
class Tables:
    """One finite POMDP. Entries of probability 0 fill the lists up; ends lead to themselves."""

    next: np.ndarray  # [K, S, B] int32
    prob: np.ndarray  # [K, S, B] float, rows sum to 1
    reward: np.ndarray  # [K, S, B] float, of the transition
    obs: np.ndarray  # [K, S, M] int32 in 0 .. O - 1, with the arrival in a state
    obs_prob: np.ndarray  # [K, S, M] float, rows sum to 1
    first_obs: np.ndarray  # [S, M] int32, at the start of an episode
    first_prob: np.ndarray  # [S, M] float, rows sum to 1
    starts: np.ndarray  # [N, D] int32
    start_prob: np.ndarray  # [N, D] float, rows sum to 1
    ends: np.ndarray  # [S] bool, entering it terminates the episode
    task: np.ndarray  # [S] int32 in 0 .. N - 1, the task to which it belongs
    num_obs: int = struct.field(pytree_node=False)  # O

    @property
    def num_states(self) -> int:
        """S."""
        return int(self.ends.shape[0])

    @property
    def num_actions(self) -> int:
        """K."""
        return int(self.next.shape[0])

    @property
    def num_tasks(self) -> int:
        """N."""
        return int(self.starts.shape[0])

    def in_32_bits(self) -> "Tables":
        """The same with float32 for float64."""
        narrow = {
            name: leaf.astype(np.float32)
            for name, leaf in vars(self).items()
            if getattr(leaf, "dtype", None) == np.float64
        }
        return self.replace(**narrow)  # type: ignore[attr-defined, no-any-return]

    def expected_reward(self) -> np.ndarray:
        """r(s, a), [K, S] float64."""
        return np.sum(self.prob * self.reward, axis=-1)

    def start_law(self) -> np.ndarray:
        """The law of the first state in each task, [N, S] float64."""
        law = np.zeros((self.num_tasks, self.num_states))
        for task, (states, probs) in enumerate(zip(self.starts, self.start_prob, strict=True)):
            np.add.at(law[task], states, probs)
        return law


def explored(
    starts: Sequence[Sequence[tuple[float, State]]],
    outcomes: Callable[[Any, int], Outcomes],
    observed: Callable[[int | None, Any], Signals],
    is_end: Callable[[Any], bool],
    num_actions: int,
    num_obs: int,
) -> Tables:
    """The tables of all states that can be reached.

    Args:
      starts: for each task the law of its first state, (probability, state).
      outcomes: of an action in a state; states that differ only by their task are different states.
      observed: what an action shows in the state that it led to; for None, what an episode's first state shows.
      is_end: whether entering a state terminates the episode.
      num_actions: K.
      num_obs: O.

    Raises:
      InputError: more than ``MAX_STATES`` states, rows that do not sum to 1.
    """
    order: list[tuple[State, int]] = []  # states with their tasks, by number
    number: dict[State, int] = {}
    rows: list[list[Outcomes]] = []

    def numbered(state: State, task: int) -> int:
        if state not in number:
            require(len(order) < MAX_STATES, "states", f"more than {MAX_STATES}", f"at most {MAX_STATES} states")
            number[state] = len(order)
            order.append((state, task))
        return number[state]

    first = [[(prob, numbered(state, task), 0.0) for prob, state in law] for task, law in enumerate(starts)]
    for state, task in order:  # grows as it goes
        found = [[(1.0, state, 0.0)] if is_end(state) else outcomes(state, action) for action in range(num_actions)]
        rows.append([[(prob, numbered(after, task), paid) for prob, after, paid in each] for each in found])
    following = [_padded([row[action] for row in rows]) for action in range(num_actions)]
    shown = [
        [[(prob, obs, 0.0) for prob, obs in observed(action, state)] for state, _ in order]
        for action in (None, *range(num_actions))
    ]
    signals = _same_width([_padded(each)[:2] for each in shown])
    start, start_prob, _ = _padded(first)
    following = _same_width(following)
    tables = Tables(
        next=np.stack([each[0] for each in following]),
        prob=np.stack([each[1] for each in following]),
        reward=np.stack([each[2] for each in following]),
        obs=np.stack([each[0] for each in signals[1:]]),
        obs_prob=np.stack([each[1] for each in signals[1:]]),
        first_obs=signals[0][0],
        first_prob=signals[0][1],
        starts=start,
        start_prob=start_prob,
        ends=np.array([is_end(state) for state, _ in order]),
        task=np.array([task for _, task in order], np.int32),
        num_obs=num_obs,
    )
    check_tables(tables)
    return tables


def from_dense(
    transition: np.ndarray, observation: np.ndarray, reward: np.ndarray, start: np.ndarray, ends: np.ndarray
) -> Tables:
    """The tables of one task whose first observation, number O - 1, tells nothing.

    Args:
      transition: P(s' | s, a), [K, S, S] float64.
      observation: P(o | a, s'), [K, S, O] float64, of which the last is never seen later.
      reward: r(s, a, s'), [K, S, S] float64.
      start: [S] float64.
      ends: [S] bool.
    """
    num_obs = observation.shape[-1]

    def outcomes(state: int, action: int) -> Outcomes:
        row = transition[action, state]
        return [(float(row[s]), int(s), float(reward[action, state, s])) for s in np.flatnonzero(row)]

    def observed(action: int | None, state: int) -> Signals:
        if action is None:
            return [(1.0, num_obs - 1)]
        row = observation[action, state]
        return [(float(row[o]), int(o)) for o in np.flatnonzero(row)]

    law = [(float(start[s]), int(s)) for s in np.flatnonzero(start)]
    return explored([law], outcomes, observed, lambda state: bool(ends[state]), len(transition), num_obs)


def check_tables(tables: Tables) -> None:
    """Raise ``InputError`` for probabilities that are negative or do not sum to 1, and for numbers out of range."""
    for name in ("prob", "obs_prob", "first_prob", "start_prob"):
        rows = getattr(tables, name)
        require(bool(np.all(rows >= 0.0)), name, float(np.min(rows)), "probabilities")
        worst = float(np.abs(rows.sum(-1) - 1.0).max())
        require(worst <= TOLERANCE, name, f"a row {worst:.2g} off", "rows that sum to 1")
    for name in ("obs", "first_obs"):
        numbers = getattr(tables, name)
        inside = bool(np.all((numbers >= 0) & (numbers < tables.num_obs)))
        require(inside, name, int(numbers.max()), f"numbers in 0 .. {tables.num_obs - 1}")
    require(bool(np.isfinite(tables.reward).all()), "reward", "NaN or infinity", "finite numbers")


def mdp_values(tables: Tables, horizon: int, discount: float = 1.0) -> np.ndarray:
    """Q* [H, S, K] float32 of one who sees the state, by backward induction; ``Q[h]`` holds for step h."""
    q = np.zeros((horizon, tables.num_states, tables.num_actions), np.float32)
    value = np.zeros(tables.num_states)
    for h in reversed(range(horizon)):
        now = np.sum(tables.prob * (tables.reward + discount * value[tables.next]), axis=-1).T
        q[h] = np.where(tables.ends[:, None], 0.0, now)
        value = np.where(tables.ends, 0.0, now.max(-1))
    return q


class Ways(NamedTuple):
    """What may follow an action, one matrix [S, S] for each thing that may be perceived: P(s', perceived | s, a).

    An episode that is over is followed by the next one of the same task, whose first observation is perceived too.
    """

    within: list[Any]  # the episode goes on
    ended: list[Any]  # a state has ended it
    last: list[Any]  # whatever it is, where the step was the last


def ways(tables: Tables) -> list[Ways]:
    """All that may be perceived after each action, K of them; sparse float64.

    Rewards are perceived too: an agent receives them, and they may tell what the observations hide.
    """
    found = []
    states, afresh = np.arange(tables.num_states)[:, None, None], begun(tables)
    for action in range(tables.num_actions):
        after, paid = tables.next[action], tables.reward[action]
        shape = (*after.shape, tables.obs.shape[-1])
        prob = tables.prob[action][..., None] * tables.obs_prob[action][after]
        prob = np.where(tables.ends[:, None, None], 0.0, prob)
        parts = (states, after[..., None], tables.obs[action][after], paid[..., None])
        here, there, obs, reward = (np.broadcast_to(part, shape)[prob > 0.0] for part in parts)
        weight, ended = prob[prob > 0.0], tables.ends[there]
        keys, which = np.unique(np.stack([ended, obs, reward_levels(reward)]), axis=1, return_inverse=True)
        matrices = []
        for branch in range(keys.shape[1]):
            mine = which.reshape(-1) == branch
            entries = (weight[mine], (here[mine], there[mine]))
            matrices.append(sparse.csr_array(entries, shape=(tables.num_states,) * 2))
        ends = keys[0].astype(bool)
        within = [matrix for matrix, end in zip(matrices, ends, strict=True) if not end]
        over = [[matrix @ first for first in afresh] for matrix in matrices]
        stopped = [each for group, end in zip(over, ends, strict=True) if end for each in group]
        found.append(Ways(within, stopped, [each for group in over for each in group]))
    return found


def begun(tables: Tables) -> list[Any]:
    """What may be perceived first in an episode: P(first state, first observation | task of the state before)."""
    start = sparse.csr_array(tables.start_law()[tables.task])
    numbers = np.unique(tables.first_obs[tables.first_prob > 0.0])
    shown = [np.sum(np.where(tables.first_obs == obs, tables.first_prob, 0.0), axis=-1) for obs in numbers]
    found = [sparse.csr_array(start.multiply(each[None])) for each in shown]
    return [each for each in found if each.count_nonzero()]


def reward_levels(rewards: np.ndarray) -> np.ndarray:
    """For each of ``rewards`` [n] the number of the level that it is, among levels that can be told apart, [n] int."""
    values, which = np.unique(rewards, return_inverse=True)
    apart = np.diff(values) > SAME_REWARD * np.maximum(1.0, np.abs(values[1:]))
    level = np.concatenate([[0], np.cumsum(apart)])
    return level[which.reshape(-1)]


def _padded(rows: Sequence[Outcomes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, probabilities and rewards [n, width] of n lists, filled up with entries of probability 0."""
    width = max(len(row) for row in rows)
    number, prob = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width))
    reward = np.zeros((len(rows), width))
    for i, row in enumerate(rows):
        for j, (p, item, paid) in enumerate(row):
            number[i, j], prob[i, j], reward[i, j] = item, p, paid
        number[i, len(row) :] = row[0][1]
    return number, prob, reward


def _same_width(lists: list[Any]) -> list[Any]:
    """Each tuple of arrays [n, width] with the largest of the widths; what is added has probability 0."""
    width = max(each[0].shape[1] for each in lists)
    return [tuple(np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in each) for each in lists]
