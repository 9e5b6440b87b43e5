"""Cheetah-Vel: run at an unseen speed, with gymnasium's HalfCheetah on MJX (Finn et al. 2017; Wu et al. 2025).

``--env icrl.contrib.cheetah_vel:CheetahVel``, with the extra ``mjx``.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from icrl.contrib._mjx import PlanarRobot, RobotState
from icrl.core import struct
from icrl.core.tasks import TaskSet
from icrl.core.threefry import normal, split, uniform
from icrl.core.types import Array, TaskParams

FASTEST = 3.0  # m / s, of the goals
START = 0.1  # half the range of positions, and the standard deviation of velocities, around rest
# The last five of the 50 tasks of T2MIR's release, to the three digits that are known; they are not the last five of
# np.random.RandomState(1337).uniform(0, 3, 50), which its code would draw where no list is given.
TEST_VELOCITIES = (2.107, 1.242, 1.027, 1.788, 0.600)


@struct.dataclass
class CheetahVelTask(TaskParams):
    """How fast to run."""

    velocity: Array = struct.field(default_factory=lambda: jnp.float32(0.0))  # v*, [] float32, m / s


@dataclasses.dataclass(frozen=True)
class CheetahVel(PlanarRobot[CheetahVelTask]):
    """Reward -abs(v - v*) - .05 sum a^2, with v the mean speed forward during a step of .05 s; v* uniform in [0, 3].

    T2MIR (Wu et al. 2025) and its released code. There an observation has the place of the torso as well, 20 numbers;
    ours are gymnasium's 17, of which v is one, nearly.
    """

    FILE: ClassVar[str] = "half_cheetah.xml"
    FRAMES: ClassVar[int] = 5

    def sample_task(self, key: Array) -> CheetahVelTask:
        return CheetahVelTask(velocity=uniform(key, (), 0.0, FASTEST), max_steps_in_episode=self.horizon)

    def test_tasks(self) -> TaskSet:
        """The five published tasks of tests, under their numbers there."""
        goals = jnp.array(TEST_VELOCITIES, jnp.float32)
        tasks = CheetahVelTask(velocity=goals, max_steps_in_episode=self.horizon)
        return TaskSet(tasks, jnp.arange(45, 50, dtype=jnp.uint32))

    def reset_env(self, key: Array, params: CheetahVelTask) -> tuple[Array, RobotState]:
        del params
        key_position, key_velocity = split(key)
        state = self.begin(uniform(key_position, (9,), -START, START), START * normal(key_velocity, (9,)))
        return _seen(state), state

    def step_env(
        self, key: Array, state: RobotState, action: Array, params: CheetahVelTask
    ) -> tuple[Array, RobotState, Array, Array, dict[str, Array]]:
        del key
        action = jnp.clip(action, -1.0, 1.0)
        after, speed = self.advance(state, action)
        reward = -jnp.abs(speed - params.velocity) - 0.05 * jnp.sum(jnp.square(action))
        return _seen(after), after, reward, jnp.bool_(False), {}


def _seen(state: RobotState) -> Array:
    return jnp.concatenate([state.position[1:], state.velocity])
