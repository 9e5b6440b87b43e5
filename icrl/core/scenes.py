"""What there is to see of an environment, as plain data on the host: a family says it, ``icrl.gym.render`` draws it.

``Environment.scene`` returns one of the classes below. They show the truth, which no agent may know. Letters: K
actions (1 where they are not numbered), S states, P the latest moments of the episode in play, O the shape of one
observation.
"""

import dataclasses
from typing import NamedTuple

import numpy as np


class Episode(NamedTuple):
    """What has happened in the episode in play."""

    obs: np.ndarray  # [P, *O] the latest observations, oldest first; the last one is what is seen now
    counts: np.ndarray  # [K] int, how often each action was taken
    sums: np.ndarray  # [K] float, what each of them earned altogether
    action: int | None  # the last one; None before the first, and where actions are not numbered
    reward: float  # of the last action
    vector: np.ndarray | None = None  # [A] float, the last action where they are not numbered; None before the first

    @property
    def num_steps(self) -> int:
        """Steps so far."""
        return int(self.counts.sum())


class Landmark(NamedTuple):
    """A cell with something in it."""

    name: str
    cell: tuple[int, int]  # (x, y)
    is_spent: bool  # nothing can be earned here any more


@dataclasses.dataclass(frozen=True)
class Room:
    """A square room with somebody walking in it; y goes up."""

    size: int  # cells along each side
    path: np.ndarray  # [P, 2] int, the latest cells (x, y); the last is where the agent stands
    landmarks: tuple[Landmark, ...]


class Mark(NamedTuple):
    """A point in the plane with something there."""

    name: str
    at: tuple[float, float]  # (x, y)


@dataclasses.dataclass(frozen=True)
class Plane:
    """The square [-half, half]^2 of a plane with something moving in it; y goes up."""

    half: float
    path: np.ndarray  # [P, 2] float, the latest places (x, y); the last is where it is now
    marks: tuple[Mark, ...] = ()
    rods: np.ndarray | None = None  # [n, 2] float, ends of stiff rods joined one behind the other


@dataclasses.dataclass(frozen=True)
class Graph:
    """Numbered states with arrows from the current one to those that may follow."""

    places: np.ndarray  # [S, 2] float in [0, 1], from left to right and from top to bottom
    path: np.ndarray  # [P] int, the latest states; the last is the current one
    reach: np.ndarray  # [K, S] float, P(s' | current state, a)
    worth: np.ndarray  # [K] float, expected reward of each action in the current state
    labels: tuple[str, ...]  # S of them


@dataclasses.dataclass(frozen=True)
class Arms:
    """Arms of a bandit, each with what it has paid and what it truly pays."""

    means: np.ndarray  # [K] float, true expected reward of the next pull
    counts: np.ndarray  # [K] int, pulls
    sums: np.ndarray  # [K] float, rewards received


@dataclasses.dataclass(frozen=True)
class Readings:
    """The numbers of an observation and no more: how an environment looks that says nothing of itself."""

    values: np.ndarray  # [n] float
    low: float  # bounds of the values
    high: float


Scene = Room | Plane | Graph | Arms | Readings


def circle(num_states: int) -> np.ndarray:
    """Places [S, 2] around a circle, the first at the top, clockwise."""
    turn = 2 * np.pi * np.arange(num_states) / num_states
    return 0.5 + 0.5 * np.stack([np.sin(turn), -np.cos(turn)], axis=1)


def rows(num_states: int, num_columns: int) -> np.ndarray:
    """Places [S, 2] in rows of ``num_columns``, from left to right and from top to bottom; one row is in the middle."""
    row, column = np.divmod(np.arange(num_states), num_columns)
    down = row / row.max() if row.max() > 0 else np.full(num_states, 0.5)
    return np.stack([column / max(num_columns - 1, 1), down], axis=1)
