"""Walker-Param: walk in a body whose masses, inertias, damping and friction are unseen (Rakelly et al. 2019).

``--env icrl.contrib.walker_param:WalkerParam``, with the extra ``mjx``.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from icrl.contrib._mjx import PlanarRobot, RobotState, model_of
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.threefry import split, uniform
from icrl.core.types import Array, TaskParams

BODIES, JOINTS, GEOMS = 8, 9, 8  # the first body is the world, and the first geom the floor
BASES = {"mass": 1.5, "inertia": 1.5, "damping": 1.3, "friction": 1.5}
FIELDS = {"mass": "body_mass", "inertia": "body_inertia", "damping": "dof_damping", "friction": "geom_friction"}
START = 0.005  # half the range of positions and velocities around rest
LOWEST, HIGHEST, STEEPEST = 0.8, 2.0, 1.0  # heights of the torso, m, and its pitch, rad, between which it stands
FASTEST_SEEN = 10.0


def _ones(*shape: int) -> Array:
    return struct.field(default_factory=lambda: jnp.ones(shape, jnp.float32))


@struct.dataclass
class WalkerParamTask(TaskParams):
    """By what the numbers of the file are multiplied, float32 > 0 each."""

    mass: Array = _ones(BODIES)  # [8]
    inertia: Array = _ones(BODIES, 3)  # [8, 3], around the main axes of each body
    damping: Array = _ones(JOINTS)  # [9]
    friction: Array = _ones(GEOMS, 3)  # [8, 3], sliding, torsional and rolling


@dataclasses.dataclass(frozen=True)
class WalkerParam(PlanarRobot[WalkerParamTask]):
    """Reward v + 1 - .001 sum a^2, and 1 less in each step that ends fallen; v is the mean speed during .008 s.

    Every mass, inertia, damping and friction of gymnasium's Walker2d is multiplied by b^u with u uniform in
    [-scale, scale], scale = 3, and b = 1.5, of damping 1.3. It has fallen when the torso is not between .8 and 2 m,
    or leans by 1 rad. Velocities are shown cut at [-10, 10]. T2MIR (Wu et al. 2025) and its released code, where a
    step is four of the physics, and a fall goes on; constants that MuJoCo derives from the masses stay those of the
    file there and here.
    """

    scale: float = setting(3.0, low=0.0, high=10.0, help="half the range of the exponents of what is multiplied")

    FILE: ClassVar[str] = "walker2d.xml"
    FRAMES: ClassVar[int] = 4

    def sample_task(self, key: Array) -> WalkerParamTask:
        shapes = {"mass": (BODIES,), "inertia": (BODIES, 3), "damping": (JOINTS,), "friction": (GEOMS, 3)}
        factors = {
            name: jnp.float32(BASES[name]) ** uniform(part, shape, -self.scale, self.scale)
            for part, (name, shape) in zip(split(key, len(shapes)), shapes.items(), strict=True)
        }
        return WalkerParamTask(**factors, max_steps_in_episode=self.horizon)

    def validate_task(self, params: WalkerParamTask) -> None:
        super().validate_task(params)
        for name in FIELDS:
            found = np.asarray(getattr(params, name))
            require(bool(np.all(found > 0)), f"task.{name}", found.tolist(), "numbers above 0")

    def reset_env(self, key: Array, params: WalkerParamTask) -> tuple[Array, RobotState]:
        del params
        noise = uniform(key, (2, 9), -START, START)
        state = self.begin(noise[0], noise[1])
        return _seen(state), state

    def step_env(
        self, key: Array, state: RobotState, action: Array, params: WalkerParamTask
    ) -> tuple[Array, RobotState, Array, Array, dict[str, Array]]:
        del key
        action = jnp.clip(action, -1.0, 1.0)
        model = model_of(self.FILE)
        changed = {
            field: getattr(params, name) * jnp.asarray(getattr(model, field), jnp.float32)
            for name, field in FIELDS.items()
        }
        after, speed = self.advance(state, action, **changed)
        _, height, pitch = after.position[:3]
        stands = (height > LOWEST) & (height < HIGHEST) & (jnp.abs(pitch) < STEEPEST)
        reward = speed + 1.0 - 1e-3 * jnp.sum(jnp.square(action)) - jnp.where(stands, 0.0, 1.0)
        return _seen(after), after, reward, jnp.bool_(False), {}


def _seen(state: RobotState) -> Array:
    return jnp.concatenate([state.position[1:], jnp.clip(state.velocity, -FASTEST_SEEN, FASTEST_SEEN)])
