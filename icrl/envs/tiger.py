"""Tiger: listen for it, or open one of two doors (Kaelbling, Littman and Cassandra 1998)."""

import dataclasses

import numpy as np

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.envs._finite_pomdp import FinitePOMDP, steps
from icrl.planning.pomdp import Outcomes, Signals, Tables, explored

LISTEN, OPEN_LEFT = 0, 1  # actions; OPEN_LEFT + side opens the door on that side
LEFT, RIGHT, GONE = 0, 1, 2  # where the tiger is; GONE: the episode is over
NOTHING, HEARD_LEFT = 0, 1  # observations; HEARD_LEFT + side is the tiger heard on that side
COST, TREASURE, TIGER = -1.0, 10.0, -100.0


@environments.register("Tiger-v0", paper="Kaelbling, Littman, Cassandra 1998")
@dataclasses.dataclass(frozen=True)
class Tiger(FinitePOMDP):
    """Listening costs 1 and tells the tiger's side with probability ``accuracy``; a door pays 10, the tiger's -100.

    Actions: listen, open left, open right. Observations: nothing (at the start of an episode), heard left, heard
    right. Opening puts the tiger behind a random door, with an observation that tells nothing, and the episode goes on
    (the classic form); with ``opening_ends`` it terminates the episode, as in Ross et al. 2011.

    With ``levels`` N above 1 the accuracy is unknown: a task is one of N values, evenly spaced from ``accuracy`` down
    to ``least_accuracy``.

    Values from the uniform belief, discount 0.95 and no time limit: 19.3714, and 3.7702 where opening ends the episode.
    """

    horizon: int = steps(20)
    accuracy: float = setting(0.85, low=0.5, high=1.0, help="probability that listening tells the right side")
    least_accuracy: float = setting(0.6, low=0.5, high="accuracy", help="that of the last task, where levels > 1")
    levels: int = setting(1, low=1, high=64, help="N, tasks: accuracies from accuracy to least_accuracy")
    opening_ends: bool = setting(False, help="whether opening a door terminates the episode")

    def tables(self) -> Tables:
        accuracies = np.linspace(self.accuracy, self.least_accuracy, self.levels)

        def outcomes(state: tuple[int, int], action: int) -> Outcomes:
            level, side = state
            if action == LISTEN:
                return [(1.0, state, COST)]
            reward = TIGER if action - OPEN_LEFT == side else TREASURE
            if self.opening_ends:
                return [(1.0, (level, GONE), reward)]
            return [(0.5, (level, LEFT), reward), (0.5, (level, RIGHT), reward)]

        def observed(action: int | None, state: tuple[int, int]) -> Signals:
            level, side = state
            if action is None or side == GONE:
                return [(1.0, NOTHING)]
            right = accuracies[level] if action == LISTEN else 0.5
            return [(right, HEARD_LEFT + side), (1.0 - right, HEARD_LEFT + 1 - side)]

        starts = [[(0.5, (level, LEFT)), (0.5, (level, RIGHT))] for level in range(self.levels)]
        return explored(starts, outcomes, observed, lambda state: state[1] == GONE, 3, 3)
