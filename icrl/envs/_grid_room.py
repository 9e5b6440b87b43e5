"""What all dark rooms share: a square grid seen only as a position, five moves, episodes of fixed length, exact values.

A room is deterministic once an episode has begun. A subclass therefore only says what one action changes
(``advance``), how much can still be earned (``value``) and where the next reward lies (``target``); episodes and
oracles follow from these three, and every oracle is exact for the steps that remain.
"""

import abc
import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import require, require_int
from icrl.core.fields import setting
from icrl.core.scenes import Episode, Landmark, Room
from icrl.core.threefry import below, words
from icrl.core.types import Array, Environment, EnvSpec, EnvState, TaskParams

MAX_SIZE = 128  # the number of a (key, goal) pair, below size^4, then fits an int32
MAX_HORIZON = 2**24  # counts up to here are exact in float32
STARTS = ("center", "corner", "random")
NUM_MOVES = 5
STAY = 4  # the moves: 0 +x, 1 -x, 2 +y, 3 -y, 4 stay

RoomTask = TypeVar("RoomTask", bound=TaskParams)


@dataclasses.dataclass(frozen=True)
class GridRoom(Environment[RoomTask]):
    """A ``size`` x ``size`` grid with walls; the observation is the position (x, y) [2] float32, raw integers.

    The end of an episode is a time limit (``truncated``), never a termination. The tasks are finitely many and
    numbered: ``task(i)`` for i in 0 .. ``num_tasks`` - 1, so that published splits are lists of numbers.
    """

    size: int = setting(9, low=2, high=MAX_SIZE, help="cells along each side")
    horizon: int = setting(20, low=1, high=MAX_HORIZON, help="H, steps in an episode")
    start: str = setting(
        "center",
        choices=STARTS,
        help="cell in which episodes begin: (size // 2, size // 2), (0, 0), or drawn uniformly",
    )

    is_deterministic = True
    keys_in_place = True
    reward_values = (0.0, 1.0)

    @property
    @abc.abstractmethod
    def num_tasks(self) -> int:
        """How many tasks the family has."""

    @abc.abstractmethod
    def task(self, index: Array) -> RoomTask:
        """The task with number ``index`` [] int32 in 0 .. num_tasks - 1; traceable."""

    @abc.abstractmethod
    def begin(self, position: Array) -> EnvState:
        """The state of an episode that starts in the cell ``position`` [2] int32; has ``position`` and ``time``."""

    @abc.abstractmethod
    def advance(self, params: RoomTask, state: EnvState, action: Array) -> tuple[EnvState, Array]:
        """The state after one action and the reward for it, (state, [] int32)."""

    @abc.abstractmethod
    def value(self, params: RoomTask, state: EnvState) -> Array:
        """V*: the most that can be earned in the rest of the episode, [] int32."""

    @abc.abstractmethod
    def target(self, params: RoomTask, state: EnvState) -> Array:
        """The cell to go to next, [2] int32; the agent's own when nothing is left to earn."""

    @abc.abstractmethod
    def landmarks(self, params: RoomTask) -> dict[str, Array]:
        """The cells that make the task, by what is in them, [2] int32 each; for pictures, no agent may know them."""

    def spent(self, state: EnvState) -> dict[str, Array]:
        """Which landmarks can pay no more in this episode, [] bool each; those that always pay may be left out."""
        del state
        return {}

    def scene(self, params: RoomTask, state: EnvState, episode: Episode) -> Room:
        spent = {name for name, is_spent in self.spent(state).items() if is_spent}
        cells = {name: np.asarray(cell).tolist() for name, cell in self.landmarks(params).items()}
        landmarks = tuple(Landmark(name, (x, y), name in spent) for name, (x, y) in cells.items())
        return Room(self.size, np.asarray(episode.obs).astype(int), landmarks)

    def action_of_move(self, params: RoomTask, move: Array) -> Array:
        """The number of the action which makes ``move``, [] int32."""
        del params
        return move

    def cell(self, index: Array) -> Array:
        """The cell with number ``index`` [] int32 in row-major order, (x, y) = (index // size, index % size)."""
        index = jnp.asarray(index, jnp.int32)
        return jnp.stack([index // self.size, index % self.size])

    def moved(self, position: Array, move: Array) -> Array:
        """The cell reached from ``position`` [2] int32, [2] int32; walls hold, an unknown move stays."""
        plus = jnp.arange(2, dtype=jnp.int32) * 2  # moves 0 and 2 go up an axis, 1 and 3 down
        step = (move == plus).astype(jnp.int32) - (move == plus + 1).astype(jnp.int32)
        return jnp.clip(position + step, 0, self.size - 1)

    def remaining(self, params: RoomTask, state: EnvState) -> Array:
        """Steps left in the episode, [] int32 >= 0."""
        return jnp.maximum(params.max_steps_in_episode - state.time, 0)

    @property
    def spec(self) -> EnvSpec:
        room = (self.size, self.size)
        return EnvSpec(
            type(self).__name__,
            NUM_MOVES,
            (2,),
            0.0,
            self.size - 1.0,
            self.horizon,
            room,
            exact_sampler="posterior-task",
        )

    def sample_task(self, key: Array) -> RoomTask:
        """Draw uniformly from all tasks."""
        return self.task(jax.random.randint(key, (), 0, self.num_tasks, jnp.int32))

    def reset_env(self, key: Array, params: RoomTask) -> tuple[Array, EnvState]:
        del params
        if self.start == "random":
            return self.random_cell(key)
        del key
        return observed(self.begin(self.fixed_start))

    @property
    def fixed_start(self) -> Array:
        """The cell in which every episode starts unless ``start`` is "random", [2] int32."""
        return jnp.full(2, self.size // 2 if self.start == "center" else 0, jnp.int32)

    def random_cell(self, key: Array) -> tuple[Array, EnvState]:
        """The first observation and state of an episode that starts in a uniformly drawn cell."""
        return observed(self.begin(self.cell(below(words(key, 1)[0], self.size**2))))

    def random_state(self, key: Array, params: RoomTask) -> tuple[Array, EnvState]:
        """A uniformly drawn cell at the start of an episode."""
        del params
        return self.random_cell(key)

    def step_env(
        self, key: Array, state: EnvState, action: Array, params: RoomTask
    ) -> tuple[Array, EnvState, Array, Array, dict[str, Array]]:
        del key
        state, reward = self.advance(params, state, action)
        return *observed(state), reward.astype(jnp.float32), jnp.bool_(False), {}

    def is_truncated(self, state: EnvState, params: RoomTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: RoomTask, state: EnvState) -> Array:
        """Towards the target: along x first, then along y, else stay (the order of the released codes)."""
        gap_x, gap_y = self.target(params, state) - state.position
        along_y = jnp.where(gap_y > 0, 2, jnp.where(gap_y < 0, 3, STAY))
        return self.action_of_move(params, jnp.where(gap_x > 0, 0, jnp.where(gap_x < 0, 1, along_y)).astype(jnp.int32))

    def regret(self, params: RoomTask, state: EnvState, action: Array) -> Array:
        """V*(state) - Q*(state, action), what the action costs of the return of this episode, [] float32."""
        after, reward = self.advance(params, state, action)
        return (self.value(params, state) - reward - self.value(params, after)).astype(jnp.float32)

    def optimal_return(self, params: RoomTask) -> Array:
        """V* at the start of an episode, averaged over the starts when they are random, [] float32."""
        if self.start != "random":
            return self.value(params, self.begin(self.fixed_start)).astype(jnp.float32)
        cells = jax.vmap(self.cell)(jnp.arange(self.size**2))
        values = jax.vmap(lambda cell: self.value(params, self.begin(cell)))(cells)
        return jnp.mean(values.astype(jnp.float32))

    def validate_task(self, params: RoomTask) -> None:
        wanted = jax.eval_shape(self.task, 0)
        require(type(params) is type(wanted), "task", type(params).__name__, type(wanted).__name__)
        require_int("task.max_steps_in_episode", params.max_steps_in_episode, 1, MAX_HORIZON)
        for field in dataclasses.fields(wanted):
            if field.name != "max_steps_in_episode":
                shape = getattr(wanted, field.name).shape
                found = np.asarray(getattr(params, field.name))
                require(found.shape == shape, f"task.{field.name}", found.shape, f"shape {shape}")
                is_integer = np.issubdtype(found.dtype, np.integer)
                require(is_integer, f"task.{field.name}", str(found.dtype), "an integer dtype")

    def require_cell(self, field: str, cell: Any) -> None:
        """Refuse a pair of integers that is not a cell of this room."""
        found = np.asarray(cell)
        inside = bool(((found >= 0) & (found < self.size)).all())
        require(inside, field, found.tolist(), f"a cell of the room, (0, 0) to ({self.size - 1}, {self.size - 1})")


def observed(state: EnvState) -> tuple[Array, EnvState]:
    """What is seen in ``state`` [2] float32, and the state."""
    return state.position.astype(jnp.float32), state


def steps_to_arrive(position: Array, cell: Array) -> Array:
    """Actions until the agent first ENTERS ``cell`` [2] int32, [] int32; standing there takes one, to stay."""
    return jnp.maximum(jnp.sum(jnp.abs(cell - position)), 1)
