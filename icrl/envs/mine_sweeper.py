"""Mine Sweeper on a board that is never shown (Morad et al. 2023)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.errors import require_int
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._decks import shuffled
from icrl.envs._levels import Levelled


@struct.dataclass
class MineSweeperState:
    """The board of this episode, its cells row by row."""

    time: Array  # [] int32, actions done
    mines: Array  # [n n] bool, where there is one
    seen: Array  # [n n] bool, which have been opened


@environments.register("MineSweeper-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class MineSweeper(Levelled):
    """Observation [1]: mines in the opened cell and the eight around it; 0 at the start. Action: row * n + column.

    A new cell earns 1 / C, where C = n^2 - mines cells are to be opened, an old one costs 0.5 / (C - 2). A mine costs
    0.5 + 1 / C and terminates the episode, as the last new cell does; C steps are its time limit. 4 x 4 cells with 2
    mines, 6 x 6 with 6 or 8 x 8 with 10. A random player gets -0.23, -0.40 and -0.43.

    Departure from POPGym: its action is a pair (row, column).
    """

    size: int | None = setting(None, low=3, high=32, help="n, cells on a side; none: as many as the level has")
    mines: int | None = setting(None, low=1, high="most_mines", help="hidden mines; none: as many as the level has")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("mines", self.num_mines, 1, self.most_mines)  # those of the level may not fit the size either

    @property
    def side(self) -> int:
        """The n in play."""
        return self.by_level(self.size, 4, 6, 8)

    @property
    def num_mines(self) -> int:
        """Mines in play."""
        return self.by_level(self.mines, 2, 6, 10)

    @property
    def most_mines(self) -> int:
        """As many as leave three cells to be opened, which the rewards take for granted."""
        return self.side**2 - 3

    @property
    def num_clear(self) -> int:
        """C, cells without a mine."""
        return self.side**2 - self.num_mines

    @property
    def spec(self) -> EnvSpec:
        name, cells, values = type(self).__name__, self.side**2, min(self.num_mines, 9) + 1
        nvec, high = (values,), values - 1.0
        return EnvSpec(name, cells, (1,), 0.0, high, self.num_clear, nvec, ends_early=True, observes_state=False)

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, MineSweeperState]:
        del params
        cells = self.side**2
        state = MineSweeperState(jnp.int32(0), shuffled(key, cells) < self.num_mines, jnp.zeros(cells, bool))
        return jnp.zeros(1, jnp.float32), state

    def step_env(
        self, key: Array, state: MineSweeperState, action: Array, params: TaskParams
    ) -> tuple[Array, MineSweeperState, Array, Array, dict[str, Array]]:
        del key, params
        opened = self._opened(action)
        after = MineSweeperState(state.time + 1, state.mines, state.seen | opened)
        on_mine, is_old = jnp.any(opened & state.mines), jnp.any(opened & state.seen)
        is_over = on_mine | jnp.all(after.mines | after.seen)
        return self._around(state, action).astype(jnp.float32)[None], after, self._reward(on_mine, is_old), is_over, {}

    def _opened(self, action: Array) -> Array:
        return jnp.arange(self.side**2) == action

    def _around(self, state: MineSweeperState, action: Array) -> Array:
        """Mines no farther from a cell than one row and one column, [] int32."""
        cells = jnp.arange(self.side**2)
        rows = jnp.abs(cells // self.side - action // self.side)
        columns = jnp.abs(cells % self.side - action % self.side)
        return jnp.sum(state.mines & (rows <= 1) & (columns <= 1))

    def _reward(self, on_mine: Array, is_old: Array) -> Array:
        new, old = 1 / self.num_clear, -0.5 / (self.num_clear - 2)
        return jnp.where(on_mine, jnp.float32(-0.5 - new), jnp.where(is_old, jnp.float32(old), new))

    def optimal_action(self, params: TaskParams, state: MineSweeperState) -> Array:
        """The first cell that has neither a mine nor been opened."""
        del params
        return jnp.argmin(state.mines | state.seen).astype(jnp.int32)

    def regret(self, params: TaskParams, state: MineSweeperState, action: Array) -> Array:
        """What a mine costs and ends, or an old cell costs; there is no time for one step more than the new cells."""
        opened = self._opened(action)
        on_mine, is_old = jnp.any(opened & state.mines), jnp.any(opened & state.seen)
        forgone = jnp.where(on_mine, params.max_steps_in_episode - state.time, 1) / self.num_clear
        return jnp.where(on_mine | is_old, forgone - self._reward(on_mine, is_old), 0.0)

    def optimal_return(self, params: TaskParams) -> Array:
        del params
        return jnp.float32(1.0)
