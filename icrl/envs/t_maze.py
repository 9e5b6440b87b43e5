"""T-mazes: what is shown once decides, a corridor later, which way to turn (Bakker 2001; Ni et al. 2023)."""

import dataclasses
from typing import NamedTuple

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.envs._finite_pomdp import FinitePOMDP, steps
from icrl.planning.pomdp import Outcomes, Signals, Tables, explored

MAX_LENGTH = 1000
RIGHT, UP, LEFT, DOWN = range(4)  # moves of Ni et al.
MOVES = {RIGHT: (1, 0), UP: (0, 1), LEFT: (-1, 0), DOWN: (0, -1)}
NORTH, SOUTH, EAST, WEST = range(4)  # moves of POBAX


class Maze(NamedTuple):
    """A state of the T-maze of Ni et al."""

    task: int
    goal: int  # -1 or 1, the y of the goal
    x: int  # 0: the oracle's cell; the last one has the goals above and below
    y: int
    slack: int  # steps that may still be lost before the agent is late; -1: it is late
    cue: int  # what the oracle has just shown, -1 or 1; 0: nothing
    was_shown: bool  # whether it has ever shown it


@environments.register("TMaze-v0", paper="Ni et al. 2023; Bakker 2001")
@dataclasses.dataclass(frozen=True)
class TMaze(FinitePOMDP):
    """A corridor of L cells to a junction; reward 1 for being at the right goal, above or below it, at the last step.

    Ni et al. 2023 (When Do Transformers Shine in RL?). The oracle at the corridor's left end shows the goal's side
    once: at the start (passive, T = L + 1), or when the agent, who starts one cell to its right, goes there
    (``active``, T = L + 3). Each step of an agent that is late (x < t, or x < t - 1 where active) costs 1 / L. Optimum
    1; the best policy without memory earns 0.5 (passive). Actions: right, up, left, down.

    Observation (junction, cue + 1): whether the agent is at the junction or a goal, and there its y, in the corridor
    what the oracle shows; 1 stands for nothing. They give y and cue without the 1.

    With ``unknown_mapping`` there are two tasks: the oracle shows the goal's side, or the other one. Episodes have one
    length T, which is a time limit here, not a termination. A departure: an agent that is late pays at its last step
    too, where they charge nothing.
    """

    length: int = setting(10, low=1, high=MAX_LENGTH, help="L, cells from the oracle's or the start to the junction")
    active: bool = setting(False, help="whether the agent has to fetch the cue, one cell to the left")
    unknown_mapping: bool = setting(
        False, help="whether the cue tells the goal's side or, in other tasks, the opposite"
    )

    @property
    def horizon(self) -> int:
        """T."""
        return self.length + 1 + 2 * self.active

    @property
    def obs_nvec(self) -> tuple[int, ...]:
        return 2, 3

    def tables(self) -> Tables:
        junction = self.length + self.active

        def outcomes(state: Maze, action: int) -> Outcomes:
            right, up = MOVES[action]
            x, y = state.x + right, state.y + up
            is_free = 0 <= x <= junction and (y == 0 or (x == junction and abs(y) == 1))
            x, y = (x, y) if is_free else (state.x, state.y)
            slack = max(-1, state.slack + x - state.x - 1)
            shows = x == 0 and not state.was_shown
            after = state._replace(x=x, y=y, slack=slack, was_shown=state.was_shown or shows)
            cue = state.goal if state.task == 0 else -state.goal
            after = after._replace(cue=cue if shows else 0)
            is_last = state.x == junction and state.slack == 0  # only who is in time gets there: the step is the T-th
            late = -1.0 / self.length if slack < 0 else 0.0
            return [(1.0, after, float(y == state.goal) if is_last else late)]

        def observed(action: int | None, state: Maze) -> Signals:
            del action
            at_end = state.x == junction
            return [(1.0, 3 * at_end + (state.y if at_end else state.cue) + 1)]

        starts = []
        for task in range(2 if self.unknown_mapping else 1):
            cue = 0 if self.active else 1 - 2 * task
            mazes = [
                Maze(task, goal, int(self.active), 0, 2 * self.active, cue * goal, not self.active) for goal in (-1, 1)
            ]
            starts.append([(0.5, maze) for maze in mazes])
        return explored(starts, outcomes, observed, lambda state: False, 4, 6)


@environments.register("TMazePOBAX-v0", paper="Tao et al. 2025; Bakker 2001")
@dataclasses.dataclass(frozen=True)
class TMazePOBAX(FinitePOMDP):
    """The T-maze of POBAX: at the junction north or south ends the episode, +4 for the right one, -0.1 for the other.

    Cells 0 .. L + 1. Observation (goal, hallway, junction), bits: the first cell looks like the hallway, and shows in
    which of the two ways the goal lies. Actions: north, south, east, west. With ``unknown_mapping`` there are two
    tasks, as in ``TMaze-v0``. Departures: the time limit is 1000 there; a fourth bit that is always 0 is left out.
    """

    horizon: int = steps(50)
    length: int = setting(5, low=1, high=MAX_LENGTH, help="L, cells between start and junction")
    unknown_mapping: bool = setting(
        False, help="whether the cue tells the goal's side or, in other tasks, the opposite"
    )

    @property
    def obs_nvec(self) -> tuple[int, ...]:
        return 2, 2, 2

    def tables(self) -> Tables:
        junction, over = self.length + 1, self.length + 2

        def outcomes(state: tuple[int, int, int], action: int) -> Outcomes:
            task, goal, x = state
            if action in (EAST, WEST):
                return [(1.0, (task, goal, min(max(x + (1 if action == EAST else -1), 0), junction)), 0.0)]
            if x < junction:
                return [(1.0, state, 0.0)]
            return [(1.0, (task, goal, over), 4.0 if goal == action else -0.1)]

        def observed(action: int | None, state: tuple[int, int, int]) -> Signals:
            del action
            task, goal, x = state
            cue = goal if task == 0 else 1 - goal
            return [(1.0, 1 if x == junction else 2 + 4 * cue * (x == 0))]

        tasks = range(2 if self.unknown_mapping else 1)
        starts = [[(0.5, (task, goal, 0)) for goal in (NORTH, SOUTH)] for task in tasks]
        return explored(starts, outcomes, observed, lambda state: state[2] == over, 4, 8)
