"""Dark Room: find an unseen goal in a grid, episode after episode (Laskin et al. 2022, Algorithm Distillation).

One room in the settings of several papers. The reward is paid for the cell an action leads to, not for the cell it
is taken in; the published optima (16.54 of 20, 90.9 of 100) hold for that order only.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._grid_room import NUM_MOVES, STAY, GridRoom, steps_to_arrive


def _identity() -> Array:
    return jnp.arange(NUM_MOVES, dtype=jnp.int32)


@struct.dataclass
class DarkRoomTask(TaskParams):
    """Where the goal is and which move each action number makes."""

    goal: Array = struct.field(default_factory=lambda: jnp.zeros(2, jnp.int32))  # (x, y) [2] int32 in 0 .. size - 1
    action_order: Array = struct.field(default_factory=_identity)  # [5] int32, a permutation of the moves 0 .. 4


@struct.dataclass
class DarkRoomState:
    """Where and when the agent is."""

    position: Array  # (x, y) [2] int32
    time: Array  # [] int32, steps of this episode
    rewarded: Array  # [] bool, whether this episode has paid


@environments.register("DarkRoom-v0", paper="Laskin et al. 2022")
@dataclasses.dataclass(frozen=True)
class DarkRoom(GridRoom[DarkRoomTask]):
    """Reward 1 for every step that ends in the goal; 9 x 9, H = 20, from the centre; 81 tasks, one per goal.

    Laskin et al. 2022, section 4.1; the same room in Son et al. 2025 (DICP) and its successors. Task i has its goal
    in cell (i // size, i % size). The mean optimal return over all goals is 16.543.
    """

    reward_once: bool = setting(False, help="pay only the first time in an episode")

    @property
    def num_tasks(self) -> int:
        return self.size**2

    @property
    def spec(self) -> EnvSpec:
        return dataclasses.replace(super().spec, observes_state=not self.reward_once)

    def task(self, index: Array) -> DarkRoomTask:
        return DarkRoomTask(goal=self.cell(index), action_order=_identity(), max_steps_in_episode=self.horizon)

    def begin(self, position: Array) -> DarkRoomState:
        return DarkRoomState(position=position, time=jnp.int32(0), rewarded=jnp.bool_(False))

    def advance(self, params: DarkRoomTask, state: DarkRoomState, action: Array) -> tuple[DarkRoomState, Array]:
        # A masked sum instead of a gather, which is slow under ``vmap`` on CPU; an unknown action stays.
        chosen = jnp.arange(NUM_MOVES, dtype=jnp.int32) == action
        move = jnp.sum(jnp.where(chosen, params.action_order - STAY, 0)) + STAY
        position = self.moved(state.position, move)
        arrived = jnp.all(position == params.goal)
        pays = arrived & ~state.rewarded if self.reward_once else arrived
        after = DarkRoomState(position=position, time=state.time + 1, rewarded=state.rewarded | arrived)
        return after, pays.astype(jnp.int32)

    def value(self, params: DarkRoomTask, state: DarkRoomState) -> Array:
        remaining = self.remaining(params, state)
        payments = jnp.maximum(remaining + 1 - steps_to_arrive(state.position, params.goal), 0)
        return jnp.where(state.rewarded, 0, jnp.minimum(payments, 1)) if self.reward_once else payments

    def target(self, params: DarkRoomTask, state: DarkRoomState) -> Array:
        return jnp.where(state.rewarded, state.position, params.goal) if self.reward_once else params.goal

    def landmarks(self, params: DarkRoomTask) -> dict[str, Array]:
        return {"goal": params.goal}

    def spent(self, state: DarkRoomState) -> dict[str, Array]:
        return {"goal": state.rewarded} if self.reward_once else {}

    def action_of_move(self, params: DarkRoomTask, move: Array) -> Array:
        return jnp.argmax(params.action_order == move).astype(jnp.int32)

    def validate_task(self, params: DarkRoomTask) -> None:
        super().validate_task(params)
        self.require_cell("task.goal", params.goal)
        order = np.asarray(params.action_order).tolist()
        require(sorted(order) == list(range(NUM_MOVES)), "task.action_order", order, "a permutation of 0, 1, 2, 3, 4")


@environments.register("DarkRoomCorner-v0", paper="Lee et al. 2023")
@dataclasses.dataclass(frozen=True)
class DarkRoomCorner(DarkRoom):
    """The room of DPT (Lee et al. 2023, section 5): 10 x 10, H = 100, from (0, 0); mean optimum 91.99."""

    size: int = 10
    horizon: int = 100
    start: str = "corner"


@environments.register("DarkRoomHard-v0", paper="Laskin et al. 2022")
@dataclasses.dataclass(frozen=True)
class DarkRoomHard(DarkRoom):
    """Dark Room Hard (Laskin et al. 2022, section 4.1): 17 x 17, H = 20, pays once an episode; optimum 1."""

    size: int = 17
    reward_once: bool = True


@environments.register("DarkRoomLarge-v0", paper="Chen et al. 2025")
@dataclasses.dataclass(frozen=True)
class DarkRoomLarge(DarkRoom):
    """Darkroom-Large (Chen et al. 2025, learning history filtering): 15 x 15, H = 50, centre; mean optimum 43.529."""

    size: int = 15
    horizon: int = 50
