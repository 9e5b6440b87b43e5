"""Aliased rooms: cells that look alike, told apart only by the way one came (George et al. 2021; Dedieu et al. 2024).

The world of clone-structured graphs and of the transformer with a discrete bottleneck: a grid whose every cell shows
one of a few symbols. The demo room, 6 x 8 with 4 symbols, and the rule of its walks are those of George et al.'s
released code (vicariousinc/naturecomm_cscg). What a task pays is ours: theirs only predict and plan, nothing is paid.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import Episode, Graph, rows
from icrl.core.tasks import require_like_drawn
from icrl.core.threefry import below, bits, split, words
from icrl.core.types import Array, Environment, EnvSpec, TaskParams

WALL = -1  # in place of a symbol
MOVES = np.array([[0, -1], [0, 1], [-1, 0], [1, 0]], np.int32)  # (row, column) of left, right, up, down
DEMO = ("12303111", "11323231", "11201210", "02113002", "33101030", "21233320")
DEMO_SIZE = (6, 8, 4)  # rows, columns, symbols
COLOURINGS = ("demo", "fresh")
MAX_SIDE = 64
FAR = 2**20  # steps to a goal that cannot be reached


@struct.dataclass
class AliasedRoomTask(TaskParams):
    """What each cell shows and where the goal is; ``AliasedRoom.task_of`` makes it from these two."""

    symbols: Array = struct.field(default_factory=lambda: jnp.zeros((1, 1), jnp.int32))  # [R, C] int32, -1: a wall
    goal: Array = struct.field(default_factory=lambda: jnp.int32(0))  # [] int32, number of its cell, row-major
    distance: Array = struct.field(default_factory=lambda: jnp.zeros(1, jnp.int32))  # [R C] int32, moves to the goal


@struct.dataclass
class AliasedRoomState:
    """Where and when the agent is; the place is not seen."""

    position: Array  # [] int32, number of the cell, row-major
    time: Array  # [] int32, steps of this episode


@environments.register("AliasedRoom-v0", paper="George et al. 2021; Dedieu et al. 2024")
@dataclasses.dataclass(frozen=True)
class AliasedRoom(Environment[AliasedRoomTask]):
    """R x C cells, each showing one of O symbols; the observation [1] is the symbol, and no more. H = 100 steps.

    Actions: left, right, up, down. A move against a wall, or against the edge unless the room is a ``torus``, keeps
    the position and shows its symbol again. Episodes begin in a uniformly drawn cell. A step that ends in the goal,
    a cell that is drawn with the task, earns 1. ``colouring`` "demo" is the published room, "fresh" draws the symbols
    of every cell anew with each task, which makes the in-context family: the map must be learned within a walk.

    The oracles see the position: they bound what can be earned from above.
    """

    rows: int = setting(6, low=1, high=MAX_SIDE, help="R, rows of cells")
    columns: int = setting(8, low=1, high=MAX_SIDE, help="C, cells of a row")
    num_symbols: int = setting(4, low=1, high=256, help="O, symbols that a cell may show")
    torus: bool = setting(False, help="whether moves over an edge come in at the opposite one")
    colouring: str = setting("demo", choices=COLOURINGS, help="the published room, or a fresh one for each task")
    horizon: int = setting(100, low=1, high=2**20, help="H, steps in an episode")

    def __post_init__(self) -> None:
        super().__post_init__()
        size = (self.rows, self.columns, self.num_symbols)
        allowed = f"{DEMO_SIZE} with colouring demo"
        require(self.colouring != "demo" or size == DEMO_SIZE, "rows, columns, num_symbols", size, allowed)

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            type(self).__name__,
            len(MOVES),
            (1,),
            0.0,
            self.num_symbols - 1.0,
            self.horizon,
            (self.num_symbols,),
            observes_state=False,
        )

    @property
    def num_cells(self) -> int:
        """R C."""
        return self.rows * self.columns

    def sample_task(self, key: Array) -> AliasedRoomTask:
        """The symbols (drawn uniformly where they are fresh) and a uniformly drawn goal."""
        key_symbols, key_goal = split(key)
        if self.colouring == "demo":
            symbols = jnp.array([[int(symbol) for symbol in row] for row in DEMO], jnp.int32)
        else:
            symbols = below(bits(key_symbols, (self.rows, self.columns)), self.num_symbols)
        return self.task_of(symbols, below(words(key_goal, 1)[0], self.num_cells))

    def task_of(self, symbols: Array, goal: Array) -> AliasedRoomTask:
        """The task with ``symbols`` [R, C] int32 and the cell ``goal`` [] int32; traceable."""
        symbols, goal = jnp.asarray(symbols, jnp.int32), jnp.asarray(goal, jnp.int32)
        distance = moves_to(self.successors(symbols), goal)
        return AliasedRoomTask(symbols=symbols, goal=goal, distance=distance, max_steps_in_episode=self.horizon)

    def moved(self, symbols: Array, position: Array, action: Array) -> Array:
        """The cell behind a move from the cell ``position`` [] int32, [] int32; an unknown action stays."""
        place = jnp.stack([position // self.columns, position % self.columns])
        place = place + jnp.sum(jnp.where(jnp.arange(len(MOVES))[:, None] == action, MOVES, 0), axis=0)
        size = jnp.array([self.rows, self.columns], jnp.int32)
        place = place % size if self.torus else jnp.clip(place, 0, size - 1)
        there = place[0] * self.columns + place[1]
        return jnp.where(symbols.reshape(-1)[there] == WALL, position, there)

    def successors(self, symbols: Array) -> Array:
        """The cell behind every move from every cell, [R C, K] int32."""
        cells, actions = jnp.arange(self.num_cells), jnp.arange(len(MOVES))
        along = jax.vmap(jax.vmap(self.moved, in_axes=(None, None, 0)), in_axes=(None, 0, None))
        return along(symbols, cells, actions)

    def reset_env(self, key: Array, params: AliasedRoomTask) -> tuple[Array, AliasedRoomState]:
        free = jnp.cumsum(params.symbols.reshape(-1) != WALL)
        chosen = below(words(key, 1)[0], free[-1])
        return self._observed(AliasedRoomState(jnp.sum(free <= chosen).astype(jnp.int32), jnp.int32(0)), params)

    def random_state(self, key: Array, params: AliasedRoomTask) -> tuple[Array, AliasedRoomState]:
        """A uniformly drawn cell at the start of an episode."""
        return self.reset_env(key, params)

    def step_env(
        self, key: Array, state: AliasedRoomState, action: Array, params: AliasedRoomTask
    ) -> tuple[Array, AliasedRoomState, Array, Array, dict[str, Array]]:
        del key
        position = self.moved(params.symbols, state.position, action)
        obs, state = self._observed(AliasedRoomState(position, state.time + 1), params)
        return obs, state, (position == params.goal).astype(jnp.float32), jnp.bool_(False), {}

    def _observed(self, state: AliasedRoomState, params: AliasedRoomTask) -> tuple[Array, AliasedRoomState]:
        symbol = params.symbols.reshape(-1)[state.position]
        return symbol.astype(jnp.float32)[None], state

    def is_truncated(self, state: AliasedRoomState, params: AliasedRoomTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: AliasedRoomTask, state: AliasedRoomState) -> Array:
        """The first of the moves with the shortest way to the goal behind them: to arrive soonest is to earn most."""
        after = self._after(params, state)
        return jnp.argmin(params.distance[after]).astype(jnp.int32)

    def regret(self, params: AliasedRoomTask, state: AliasedRoomState, action: Array) -> Array:
        """V*(state) - Q*(state, action), what the action costs of the return of this episode, [] float32."""
        position = self.moved(params.symbols, state.position, action)
        left = params.max_steps_in_episode - state.time
        earned = (position == params.goal).astype(jnp.int32) + self._value(params, position, left - 1)
        return (self._value(params, state.position, left) - earned).astype(jnp.float32)

    def optimal_return(self, params: AliasedRoomTask) -> Array:
        """V* at the start of an episode, the mean over its cells, [] float32."""
        cells, limit = jnp.arange(self.num_cells), jnp.int32(params.max_steps_in_episode)
        values = jax.vmap(lambda cell: self._value(params, cell, limit))(cells).astype(jnp.float32)
        free = params.symbols.reshape(-1) != WALL
        return jnp.sum(values * free) / jnp.sum(free)

    def _after(self, params: AliasedRoomTask, state: AliasedRoomState) -> Array:
        """The cell behind each move, [K] int32."""
        moves = jnp.arange(len(MOVES))
        return jax.vmap(self.moved, in_axes=(None, None, 0))(params.symbols, state.position, moves)

    def _value(self, params: AliasedRoomTask, position: Array, left: Array) -> Array:
        """V* with ``left`` steps to go, [] int32: arrive, then arrive again each step, or each second one.

        Every move can be taken back, so that a goal beside no wall pays every second step.
        """
        around = jax.vmap(self.moved, in_axes=(None, None, 0))(params.symbols, params.goal, jnp.arange(len(MOVES)))
        cycle = jnp.where(jnp.any(around == params.goal), 1, 2)
        first = jnp.where(position == params.goal, cycle, params.distance[position])
        return jnp.where(left >= first, 1 + (left - first) // cycle, 0)

    def scene(self, params: AliasedRoomTask, state: AliasedRoomState, episode: Episode) -> Graph:
        del episode
        after = np.asarray(self._after(params, state))
        reach = (after[:, None] == np.arange(self.num_cells)).astype(float)
        symbols = np.asarray(params.symbols).reshape(-1)
        labels = tuple("#" if symbol == WALL else str(symbol) for symbol in symbols)
        worth = (after == int(params.goal)).astype(float)
        return Graph(rows(self.num_cells, self.columns), np.array([int(state.position)]), reach, worth, labels)

    def validate_task(self, params: AliasedRoomTask) -> None:
        require_like_drawn(self, params)
        symbols, goal = np.asarray(params.symbols), int(params.goal)
        kinds = f"integers in {WALL} .. {self.num_symbols - 1}, not all of them {WALL}"
        whole = np.issubdtype(symbols.dtype, np.integer)
        inside = whole and bool(((symbols >= WALL) & (symbols < self.num_symbols)).all() and (symbols != WALL).any())
        require(inside, "task.symbols", symbols.tolist(), kinds)
        free = 0 <= goal < self.num_cells and symbols.reshape(-1)[goal] != WALL
        require(bool(free), "task.goal", goal, f"the number of a cell without a wall, below {self.num_cells}")
        right = np.array_equal(params.distance, self.task_of(params.symbols, params.goal).distance)
        require(right, "task.distance", np.asarray(params.distance).tolist(), "that of its symbols; use task_of")


def moves_to(successors: Array, goal: Array) -> Array:
    """Length of the shortest way from each of S states to ``goal`` [] int32, [S] int32; ``FAR``: there is none.

    ``successors`` [S, K] int32 are the states behind each action. Relaxed until nothing changes (Bellman-Ford).
    """
    distance = jnp.full(successors.shape[0], FAR, jnp.int32).at[goal].set(0)

    def relaxed(now: tuple[Array, Array]) -> tuple[Array, Array]:
        closer = jnp.minimum(now[0], jnp.min(now[0][successors], axis=1) + 1)
        return closer, jnp.any(closer != now[0])

    return jax.lax.while_loop(lambda now: now[1], relaxed, (distance, jnp.bool_(True)))[0]
