"""Battleship on a board that is never shown (Morad et al. 2023)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import below, words
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._levels import Levelled

SHIPS = (2, 3, 3, 4)  # their lengths, in the order in which they are placed
NUM_TARGETS = sum(SHIPS)
SMALLEST = 5  # cells on a side from which the last ship always finds a place


@struct.dataclass
class BattleshipState:
    """The board of this episode, its cells row by row."""

    time: Array  # [] int32, actions done
    ships: Array  # [n n] bool, where there is one
    shot: Array  # [n n] bool, where has been fired


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

    size: int | None = setting(None, low=SMALLEST, high=64, help="n, cells on a side; none: as many as the level has")

    @property
    def side(self) -> int:
        """The n in play."""
        return self.by_level(self.size, 8, 10, 12)

    @property
    def spec(self) -> EnvSpec:
        cells = self.side**2
        return EnvSpec(type(self).__name__, cells, (1,), 0.0, 1.0, cells, (2,), ends_early=True)

    @property
    def cost(self) -> float:
        """Of a miss."""
        return 1 / (self.side**2 - NUM_TARGETS)

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, BattleshipState]:
        del params
        board = jnp.zeros((self.side, self.side), bool)
        for word, length in zip(words(key, len(SHIPS)), SHIPS, strict=True):
            board = with_ship(word, board, length)
        state = BattleshipState(jnp.int32(0), board.reshape(-1), jnp.zeros(self.side**2, bool))
        return jnp.zeros(1, jnp.float32), state

    def step_env(
        self, key: Array, state: BattleshipState, action: Array, params: TaskParams
    ) -> tuple[Array, BattleshipState, Array, Array, dict[str, Array]]:
        del key, params
        target = self._target(action)
        is_hit = jnp.any(target & self._afloat(state))
        after = BattleshipState(state.time + 1, state.ships, state.shot | target)
        reward = jnp.where(is_hit, jnp.float32(1 / NUM_TARGETS), -self.cost)
        return is_hit.astype(jnp.float32)[None], after, reward, ~jnp.any(self._afloat(after)), {}

    def _target(self, action: Array) -> Array:
        return jnp.arange(self.side**2) == action

    def _afloat(self, state: BattleshipState) -> Array:
        """Cells [n n] of ships that have not been hit."""
        return state.ships & ~state.shot

    def optimal_action(self, params: TaskParams, state: BattleshipState) -> Array:
        """The first cell of a ship that has not been hit."""
        del params
        return jnp.argmax(self._afloat(state)).astype(jnp.int32)

    def regret(self, params: TaskParams, state: BattleshipState, action: Array) -> Array:
        """The cost of a miss, and the hit that it leaves no time for."""
        afloat = self._afloat(state)
        is_late = params.max_steps_in_episode - state.time <= jnp.sum(afloat)
        missed = self.cost + jnp.where(is_late, jnp.float32(1 / NUM_TARGETS), 0.0)
        return jnp.where(jnp.any(self._target(action) & afloat), 0.0, missed)

    def optimal_return(self, params: TaskParams) -> Array:
        del params
        return jnp.float32(1.0)


def with_ship(word: Array, board: Array, length: int) -> Array:
    """The board [n, n] bool with a ship more; ``word`` [] uint32 chooses among all places without a ship."""
    side = board.shape[0]
    places = side - length + 1
    lines = jnp.concatenate([board, board.T])  # [2 n, n], rows and columns
    taken = jnp.stack([lines[:, shift : shift + places] for shift in range(length)])
    is_free = ~jnp.any(taken, axis=0)  # [2 n, places], where a ship may begin
    chosen = below(word, jnp.sum(is_free))
    line, chosen = _numbered(jnp.sum(is_free, axis=1), chosen)
    start, _ = _numbered(jnp.any(is_free & (jnp.arange(2 * side) == line)[:, None], axis=0), chosen)
    cells = jnp.arange(side)
    covers = (start <= cells) & (cells < start + length)
    row = (cells == line)[:, None] & covers[None]
    column = (cells == line - side)[None] & covers[:, None]
    return board | row | column


def _numbered(counts: Array, number: Array) -> tuple[Array, Array]:
    """Where the thing with a number lies if the n-th bin holds ``counts[n]`` of them, and its number in there."""
    order = jnp.arange(counts.size)
    up_to = jnp.sum(jnp.where(order[None] <= order[:, None], counts[None].astype(jnp.int32), 0), axis=1)
    return jnp.sum(up_to <= number), number - jnp.max(jnp.where(up_to <= number, up_to, 0))
