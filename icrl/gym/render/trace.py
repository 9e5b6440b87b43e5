"""What pictures remember of the episodes in play, side by side in N sub-environments; N is 1 for a single one."""

from collections import deque

import numpy as np

from icrl.core.scenes import Episode

REMEMBERED = 256  # observations, so that long episodes cost no more memory than short ones


class Trace:
    """Counts since the last reset of each sub-environment and its latest observations."""

    def __init__(self, num_envs: int, num_actions: int):
        self._counts = np.zeros((num_envs, num_actions), np.int64)
        self._sums = np.zeros((num_envs, num_actions))
        self._actions = np.full(num_envs, -1)  # the last ones; -1 before the first
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
        self._counts[everyone, actions] += 1
        self._sums[everyone, actions] += rewards
        self._actions[:], self._rewards[:] = actions, rewards
        self._lengths += 1
        self._forget(restarted)
        self._obs.append(np.array(obs))

    def episode(self, index: int) -> Episode:
        """What has happened in sub-environment ``index``."""
        length = min(int(self._lengths[index]), len(self._obs))
        obs = np.stack([self._obs[i][index] for i in range(len(self._obs) - length, len(self._obs))])
        action = int(self._actions[index])
        counts, sums = self._counts[index].copy(), self._sums[index].copy()
        return Episode(obs, counts, sums, None if action < 0 else action, float(self._rewards[index]))

    def _forget(self, where: np.ndarray) -> None:
        self._counts[where], self._sums[where] = 0, 0.0
        self._actions[where], self._rewards[where], self._lengths[where] = -1, 0.0, 1
