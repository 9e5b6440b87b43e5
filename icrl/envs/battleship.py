"""Battleship on a board that is never shown (Morad et al. 2023)."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import below, words
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._levels import Levelled

SHIPS = (2, 3, 3, 4)  # their lengths, in the order in which they are placed
NUM_TARGETS = sum(SHIPS)
LARGEST = 31  # cells on a side, whose row is a word
SMALLEST = 5  # cells on a side from which the last ship always finds a place


@struct.dataclass
class BattleshipState:
    """The board of this episode, a word for each row, whose lowest bit is the first column."""

    time: Array  # [] int32, actions done
    ships: Array  # [n] uint32, cells with a ship that has not been hit there
    sunk: Array  # [n] uint32, those that have been hit


@environments.register("Battleship-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class Battleship(Levelled):
    """Observation [1]: whether the last shot was a hit, 1 or 0; 0 at the start. Action: row * n + column.

    Ships of 2, 3, 3 and 4 cells lie along rows or columns of n x n cells; in order, each in a place that is drawn
    uniformly from those without another ship. A first hit in a cell earns 1 / 12, any other shot costs
    1 / (n^2 - 12), also a second one at the same ship. The episode terminates when all 12 cells are hit; n^2 steps are
    its time limit. n = 8, 10 or 12. A random player gets -0.46, -0.42 and -0.40; one who never fires twice at a cell
    0.08.

    Departure from POPGym: its action is a pair (row, column), and its board may be too small for its ships.
    """

    size: int | None = setting(
        None, low=SMALLEST, high=LARGEST, help="n, cells on a side; none: as many as the level has"
    )

    @property
    def side(self) -> int:
        """The n in play."""
        return self.by_level(self.size, 8, 10, 12)

    @property
    def spec(self) -> EnvSpec:
        cells = self.side**2
        return EnvSpec(type(self).__name__, cells, (1,), 0.0, 1.0, cells, (2,), ends_early=True, observes_state=False)

    @property
    def cost(self) -> float:
        """Of a miss."""
        return 1 / (self.side**2 - NUM_TARGETS)

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, BattleshipState]:
        del params
        nothing = jnp.zeros(self.side, jnp.uint32)
        draws = jnp.stack(words(key, len(SHIPS))), jnp.array(SHIPS, jnp.uint32)
        # a scan, since XLA would place each ship anew wherever the next one looks at the board
        (ships, _), _ = jax.lax.scan(lambda board, draw: (with_ship(board, *draw), None), (nothing, nothing), draws)
        return jnp.zeros(1, jnp.float32), BattleshipState(jnp.int32(0), ships, nothing)

    def step_env(
        self, key: Array, state: BattleshipState, action: Array, params: TaskParams
    ) -> tuple[Array, BattleshipState, Array, Array, dict[str, Array]]:
        del key, params
        hit = state.ships & self._target(action)
        is_hit = jnp.any(hit != 0)
        after = BattleshipState(state.time + 1, state.ships ^ hit, state.sunk | hit)
        reward = jnp.where(is_hit, jnp.float32(1 / NUM_TARGETS), -self.cost)
        return is_hit.astype(jnp.float32)[None], after, reward, jnp.all(after.ships == 0), {}

    def _target(self, action: Array) -> Array:
        """The board [n] with nothing but the cell of an action."""
        row, column = action // self.side, (action % self.side).astype(jnp.uint32)
        return jnp.where(jnp.arange(self.side) == row, jnp.uint32(1) << column, jnp.uint32(0))

    def optimal_action(self, params: TaskParams, state: BattleshipState) -> Array:
        """A cell of a ship that has not been hit, the last of the first row that has one."""
        del params
        row = jnp.argmax(state.ships != 0).astype(jnp.int32)
        return row * self.side + jnp.maximum(31 - jax.lax.clz(state.ships[row]).astype(jnp.int32), 0)

    def regret(self, params: TaskParams, state: BattleshipState, action: Array) -> Array:
        """The cost of a miss, and the hit that it leaves no time for."""
        is_hit = jnp.any(state.ships & self._target(action) != 0)
        afloat = jnp.sum(jax.lax.population_count(state.ships))
        is_late = params.max_steps_in_episode - state.time <= afloat.astype(jnp.int32)
        return jnp.where(is_hit, 0.0, self.cost + jnp.where(is_late, jnp.float32(1 / NUM_TARGETS), 0.0))

    def optimal_return(self, params: TaskParams) -> Array:
        del params
        return jnp.float32(1.0)


def with_ship(board: tuple[Array, Array], word: Array, length: Array) -> tuple[Array, Array]:
    """The board with one more ship, in a place that ``word`` [] uint32 chooses among all that are free.

    Args:
      board: its rows and its columns, [n] uint32 each; the same cells twice.
      word: random.
      length: [] uint32, of the ship.
    """
    rows, columns = board
    side, one = rows.size, jnp.uint32(1)
    lines, cells = jnp.arange(2 * side), jnp.arange(side, dtype=jnp.uint32)  # rows and then columns; along each of them
    free = ~jnp.concatenate([rows, columns]) & jnp.uint32(2**side - 1)
    starts = free  # [2 n], where along each line the ship may begin
    for shift in range(1, max(SHIPS)):
        starts &= jnp.where(shift < length, free >> shift, starts)
    counts = jax.lax.population_count(starts).astype(jnp.int32)
    up_to = jnp.sum(jnp.where(lines[None] <= lines[:, None], counts[None], 0), axis=1)
    number = below(word, up_to[-1])  # of the place, line by line
    line = jnp.sum(up_to <= number)
    number = number - jnp.max(jnp.where(up_to <= number, up_to, 0))
    its_starts = jnp.sum(jnp.where(lines == line, starts, jnp.uint32(0)), dtype=jnp.uint32)
    start = jnp.sum(jax.lax.population_count(its_starts & ((one << cells << 1) - 1)).astype(jnp.int32) <= number)
    start = start.astype(jnp.uint32)
    along = jnp.where(lines == line, ((one << length) - 1) << start, jnp.uint32(0))
    is_crossed = (start <= cells) & (cells < start + length)  # lines of the other direction, in one cell each
    across = jnp.where(is_crossed, one << (line % side).astype(jnp.uint32), jnp.uint32(0))
    in_row = line < side
    rows |= along[:side] | jnp.where(in_row, jnp.uint32(0), across)
    columns |= along[side:] | jnp.where(in_row, across, jnp.uint32(0))
    return rows, columns
