"""Pendulum: swing up a rod by a weak torque, with its velocity hidden or noise on what is seen (Morad et al. 2023)."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.boxes import Box
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import Episode, Plane
from icrl.core.threefry import normal, split, uniform
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._one_task import OneTask
from icrl.envs._unknown_optimum import UnknownOptimum

GRAVITY, MASS, LENGTH, SECONDS = 10.0, 1.0, 1.0, 0.05  # m / s^2, kg, m, of a step
FASTEST, TORQUE = 8.0, 2.0  # rad / s, N m
SHOWN = {"position": (0, 1), "all": (0, 1, 2)}
HALF_RANGE = 16.2736044 / 2  # half of the largest cost of a step, by which POPGym's rewards are scaled


@struct.dataclass
class PendulumState:
    """Where the rod is."""

    time: Array  # [] int32, actions done
    angle: Array  # [] float32, rad, 0 is upright
    speed: Array  # [] float32, rad / s


@environments.register("Pendulum-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class Pendulum(UnknownOptimum[TaskParams], OneTask):
    """Observation: cosine and sine of the angle, and the angular velocity. Action: a torque [1] in [-2, 2].

    A step costs angle^2 + .1 velocity^2 + .001 torque^2, with the angle in [-pi, pi) and all as they were in front of
    it; episodes have T = 200 steps and never end early. The equations are those of gymnasium's Pendulum-v1 in float32.
    POPGym's tasks are settings of it:

    - PositionOnlyPendulum: ``shows="position"``, the velocity is hidden; T = 200, 150 and 100 with ``steps``.
    - NoisyPositionOnlyPendulum: ``shows="position"`` with ``noise`` 0.1, 0.2 or 0.3 on cosine and sine, cut at [-1, 1].
    - ``scaled=True``: their reward, (r + c) / c / T with c = 8.1368022, of which a perfect episode has about 1.

    The optimum is not known in closed form: there is no regret, and no oracle plays.
    """

    shows: str = setting("all", choices=tuple(SHOWN), help="what is seen: position (cosine and sine), or all")
    noise: float = setting(0.0, low=0.0, high=10.0, help="standard deviation of the noise on what is seen")
    steps: int = setting(200, low=1, high=2**20, help="T, steps in an episode")
    scaled: bool = setting(False, help="POPGym's rewards, which add up to about 1 in a perfect episode")

    @property
    def spec(self) -> EnvSpec:
        high = FASTEST if self.shows == "all" else 1.0
        sees = self.shows == "all" and self.noise == 0.0
        return EnvSpec(
            type(self).__name__, 0, (len(SHOWN[self.shows]),), -high, high, self.steps,
            observes_state=sees, action_box=Box.cube(1, TORQUE), knows_optimum=False,
        )  # fmt: skip

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, PendulumState]:
        del params
        key_start, key_noise = split(key)
        angle, speed = uniform(key_start, (2,), -1.0, 1.0)
        state = PendulumState(jnp.int32(0), math.pi * angle, speed)
        return self._observe(key_noise, state), state

    def step_env(
        self, key: Array, state: PendulumState, action: Array, params: TaskParams
    ) -> tuple[Array, PendulumState, Array, Array, dict[str, Array]]:
        del params
        angle, speed, cost = swung(state.angle, state.speed, action[0])
        after = PendulumState(state.time + 1, angle, speed)
        reward = (HALF_RANGE - cost) / HALF_RANGE / self.steps if self.scaled else -cost
        return self._observe(key, after), after, reward, jnp.bool_(False), {}

    def _observe(self, key: Array, state: PendulumState) -> Array:
        seen = jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.speed])[: len(SHOWN[self.shows])]
        if self.noise == 0.0:
            return seen
        limits = jnp.array([1.0, 1.0, FASTEST], jnp.float32)[: seen.size]
        return jnp.clip(seen + jnp.float32(self.noise) * normal(key, seen.shape), -limits, limits)

    def scene(self, params: TaskParams, state: PendulumState, episode: Episode) -> Plane:
        del params, episode
        angle = float(state.angle)
        end = np.array([[math.sin(angle), math.cos(angle)]])
        return Plane(1.3, end, rods=np.concatenate([np.zeros((1, 2)), end]))


def swung(angle: Array, speed: Array, torque: Array) -> tuple[Array, Array, Array]:
    """Angle and velocity a step later, and what the step costs; [] float32 each."""
    torque = jnp.clip(torque, -TORQUE, TORQUE)
    from_top = jnp.mod(angle + math.pi, 2 * math.pi) - math.pi
    cost = jnp.square(from_top) + 0.1 * jnp.square(speed) + 0.001 * jnp.square(torque)
    force = 3 * GRAVITY / (2 * LENGTH) * jnp.sin(angle) + 3 / (MASS * LENGTH**2) * torque
    speed = jnp.clip(speed + SECONDS * force, -FASTEST, FASTEST)
    return angle + SECONDS * speed, speed, cost
