"""What pictures remember of the episodes in play, side by side in N sub-environments; N is 1 for a single one."""

from collections import deque
from typing import Any

import numpy as np

from icrl.core.scenes import Episode

REMEMBERED = 256  # observations, so that long episodes cost no more memory than short ones


class Trace:
    """Counts since the last reset of each sub-environment and its latest observations.

    Actions [N, A] that are not numbered are counted as one.
    """

    def __init__(self, num_envs: int, num_actions: int, action_shape: tuple[int, ...] = ()):
        self._counts = np.zeros((num_envs, num_actions), np.int64)
        self._sums = np.zeros((num_envs, num_actions))
        self._actions: list[Any] = [None] * num_envs  # the last ones; None before the first
        self._are_numbered = action_shape == ()
        self._rewards = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)  # observations since the last reset
        self._obs: deque[np.ndarray] = deque(maxlen=REMEMBERED)

    def begin(self, obs: np.ndarray, fresh: np.ndarray) -> None:
        """Episodes begin where ``fresh`` [N]; ``obs`` [N, *O] is what is seen now everywhere."""
        self._forget(fresh)
        if self._obs:
            self._obs.pop()  # the others still see the same
        self._obs.append(np.array(obs))

    def add(self, obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray, restarted: np.ndarray) -> None:
        """One step of each; where ``restarted`` [N], ``obs`` [N, *O] is the first one of the next episode."""
        everyone = np.arange(len(self._counts))
        columns = actions if self._are_numbered else 0
        self._counts[everyone, columns] += 1
        self._sums[everyone, columns] += rewards
        self._actions, self._rewards[:] = list(actions), rewards
        self._lengths += 1
        self._forget(restarted)
        self._obs.append(np.array(obs))

    def episode(self, index: int) -> Episode:
        """What has happened in sub-environment ``index``."""
        length = min(int(self._lengths[index]), len(self._obs))
        obs = np.stack([self._obs[i][index] for i in range(len(self._obs) - length, len(self._obs))])
        last, reward = self._actions[index], float(self._rewards[index])
        counts, sums = self._counts[index].copy(), self._sums[index].copy()
        if not self._are_numbered:
            return Episode(obs, counts, sums, None, reward, last)
        return Episode(obs, counts, sums, None if last is None else int(last), reward)

    def _forget(self, where: np.ndarray) -> None:
        self._counts[where], self._sums[where] = 0, 0.0
        self._rewards[where], self._lengths[where] = 0.0, 1
        for index in np.flatnonzero(where):
            self._actions[index] = None
