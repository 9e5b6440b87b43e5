"""Dark Key-to-Door: find an unseen key, then an unseen door (Laskin et al. 2022, section 4.1)."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core import struct
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._grid_room import GridRoom, observed, steps_to_arrive


@struct.dataclass
class DarkKeyToDoorTask(TaskParams):
    """Where the key and the door are; they may share a cell."""

    key: Array = struct.field(default_factory=lambda: jnp.zeros(2, jnp.int32))  # (x, y) [2] int32 in 0 .. size - 1
    goal: Array = struct.field(default_factory=lambda: jnp.zeros(2, jnp.int32))  # the door, (x, y) [2] int32


@struct.dataclass
class DarkKeyToDoorState:
    """Where and when the agent is, and what it has done; none but the position is seen."""

    position: Array  # (x, y) [2] int32
    time: Array  # [] int32, steps of this episode
    has_key: Array  # [] bool
    opened: Array  # [] bool, the door has paid


@environments.register("DarkKeyToDoor-v0", paper="Laskin et al. 2022")
@dataclasses.dataclass(frozen=True)
class DarkKeyToDoor(GridRoom[DarkKeyToDoorTask]):
    """Reward 1 on first reaching the key and 1 on first reaching the door after it; 9 x 9, H = 50; optimum 2.

    The step which takes the key opens no door, so a door in the key's own cell needs one more step (stay). Task i has
    its key in cell i // size^2 and its door in cell i % size^2, 6 561 tasks. Episodes start at the centre as in Son et
    al. 2025 (DICP); Laskin et al. 2022 start them in a random cell, ``start="random"``.
    """

    horizon: int = 50

    @property
    def num_tasks(self) -> int:
        return self.size**4

    @property
    def spec(self) -> EnvSpec:
        return dataclasses.replace(super().spec, observes_state=False)

    def task(self, index: Array) -> DarkKeyToDoorTask:
        key, goal = self.cell(index // self.size**2), self.cell(index % self.size**2)
        return DarkKeyToDoorTask(key=key, goal=goal, max_steps_in_episode=self.horizon)

    def begin(self, position: Array) -> DarkKeyToDoorState:
        no = jnp.bool_(False)
        return DarkKeyToDoorState(position=position, time=jnp.int32(0), has_key=no, opened=no)

    def random_state(self, key: Array, params: DarkKeyToDoorTask) -> tuple[Array, DarkKeyToDoorState]:
        """A uniformly drawn cell at the start of an episode, with or without the key, with equal chances."""
        key_cell, key_has = jax.random.split(key)
        state = self.random_cell(key_cell)[1]
        return observed(state.replace(has_key=jax.random.bernoulli(key_has, jnp.float32(0.5))))

    def advance(
        self, params: DarkKeyToDoorTask, state: DarkKeyToDoorState, action: Array
    ) -> tuple[DarkKeyToDoorState, Array]:
        position = self.moved(state.position, action)
        takes = ~state.has_key & jnp.all(position == params.key)
        opens = state.has_key & ~state.opened & jnp.all(position == params.goal)
        after = DarkKeyToDoorState(
            position=position, time=state.time + 1, has_key=state.has_key | takes, opened=state.opened | opens
        )
        return after, (takes | opens).astype(jnp.int32)

    def value(self, params: DarkKeyToDoorTask, state: DarkKeyToDoorState) -> Array:
        """Key first, then door: no other order pays, and nothing is gained by waiting."""
        remaining = self.remaining(params, state)
        to_key = steps_to_arrive(state.position, params.key)
        key_to_door = steps_to_arrive(params.key, params.goal)
        without_key = (to_key <= remaining).astype(jnp.int32) + (to_key + key_to_door <= remaining)
        with_key = (~state.opened & (steps_to_arrive(state.position, params.goal) <= remaining)).astype(jnp.int32)
        return jnp.where(state.has_key, with_key, without_key)

    def target(self, params: DarkKeyToDoorTask, state: DarkKeyToDoorState) -> Array:
        after_key = jnp.where(state.opened, state.position, params.goal)
        return jnp.where(state.has_key, after_key, params.key)

    def landmarks(self, params: DarkKeyToDoorTask) -> dict[str, Array]:
        return {"key": params.key, "door": params.goal}

    def spent(self, state: DarkKeyToDoorState) -> dict[str, Array]:
        return {"key": state.has_key, "door": state.opened}

    def validate_task(self, params: DarkKeyToDoorTask) -> None:
        super().validate_task(params)
        self.require_cell("task.key", params.key)
        self.require_cell("task.goal", params.goal)
