"""RockSample(n, k): a rover checks rocks from afar, samples the good ones and leaves (Smith and Simmons 2004)."""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np

from icrl.core.errors import require, require_int
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.envs._finite_pomdp import FinitePOMDP, steps
from icrl.planning.pomdp import MAX_STATES, Outcomes, Signals, Tables, explored

MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))  # north, east, south, west
SAMPLE, CHECK = 4, 5  # actions; CHECK + i checks rock i
NO_READING, BAD, GOOD = range(3)
HALF_EFFICIENCY = 20.0  # distance at which a sensor is right three times out of four
EXIT, VALUABLE, WORTHLESS = 10.0, 10.0, -10.0


class Rover(NamedTuple):
    """A state; the rover that has left is at x = n."""

    x: int
    y: int
    rocks: tuple[int, ...]  # 1: good, 0: bad


@environments.register("RockSample-v0", paper="Smith, Simmons 2004")
@dataclasses.dataclass(frozen=True)
class RockSample(FinitePOMDP):
    """``size`` x ``size`` cells, ``rocks`` rocks, each good with probability 1/2 in every episode; one task.

    Actions: north, east, south, west, sample, check rock 0 .. k - 1. A check at distance d is right with probability
    (1 + 2^(-d / 20)) / 2. Sampling pays 10 for a good rock, which then is bad, -10 for a bad one, nothing elsewhere.
    Moving east out of the last column pays 10 and terminates the episode; other walls hold. Episodes start in the
    middle of the first column. Observation (x, y, reading): 0 none, 1 bad, 2 good. The rocks' cells are drawn from
    ``map_seed``. Within reach of a rock a check is free, so without a discount only the time limit makes it hard.

    POBAX's form differs: the last column itself is the exit, and episodes start anywhere else.
    """

    horizon: int = steps(15)
    size: int = setting(4, low=2, high=32, help="n, cells along each side")
    rocks: int = setting(2, low=1, high=12, help="k, rocks")
    map_seed: int = setting(0, low=0, high=2**32 - 1, help="seed of the rocks' cells")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("rocks", self.rocks, 1, self.size**2)
        states = self.size**2 * 2**self.rocks
        require(
            states < MAX_STATES, "size, rocks", (self.size, self.rocks), f"n^2 2^k below {MAX_STATES}, got {states}"
        )

    @property
    def obs_nvec(self) -> tuple[int, ...]:
        return self.size + 1, self.size, 3

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Where the rocks are, (x, y)."""
        drawn = np.random.default_rng(self.map_seed).choice(self.size**2, self.rocks, replace=False)
        return [(int(cell) // self.size, int(cell) % self.size) for cell in drawn]

    def tables(self) -> Tables:
        cells, size = self.cells, self.size

        def outcomes(state: Rover, action: int) -> Outcomes:
            if action > SAMPLE:
                return [(1.0, state, 0.0)]
            if action == SAMPLE:
                return [self._sampled(state, cells)]
            right, up = MOVES[action]
            if state.x + right == size:
                return [(1.0, Rover(size, 0, (0,) * self.rocks), EXIT)]
            x, y = max(state.x + right, 0), min(max(state.y + up, 0), size - 1)
            return [(1.0, state._replace(x=x, y=y), 0.0)]

        def observed(action: int | None, state: Rover) -> Signals:
            here = (state.x * size + state.y) * 3
            if action is None or action < CHECK or state.x == size:
                return [(1.0, here + NO_READING)]
            (x, y), good = cells[action - CHECK], state.rocks[action - CHECK]
            right = (1.0 + 2.0 ** (-np.hypot(state.x - x, state.y - y) / HALF_EFFICIENCY)) / 2.0
            return [(right, here + (GOOD if good else BAD)), (1.0 - right, here + (BAD if good else GOOD))]

        every = list(itertools.product((0, 1), repeat=self.rocks))
        starts = [[(1.0 / len(every), Rover(0, size // 2, rocks)) for rocks in every]]
        num_obs = (size + 1) * size * 3
        return explored(starts, outcomes, observed, lambda state: state.x == size, CHECK + self.rocks, num_obs)

    def _sampled(self, state: Rover, cells: list[tuple[int, int]]) -> tuple[float, Rover, float]:
        if (state.x, state.y) not in cells:
            return 1.0, state, 0.0
        rock = cells.index((state.x, state.y))
        rocks = (*state.rocks[:rock], 0, *state.rocks[rock + 1 :])
        return 1.0, state._replace(rocks=rocks), VALUABLE if state.rocks[rock] else WORTHLESS
