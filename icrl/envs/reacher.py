"""Reacher: turn the joints of an arm until its hand is at a goal that is not seen (after gymnax; Lange 2022)."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.boxes import Box
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import Episode, Mark, Plane
from icrl.core.threefry import split, uniform
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._unknown_optimum import UnknownOptimum

SECONDS = 0.05  # of a step
GOALS = ("hidden", "shown")


@struct.dataclass
class ReacherTask(TaskParams):
    """Where the goal is."""

    goal: Array = struct.field(default_factory=lambda: jnp.zeros(2, jnp.float32))  # (x, y) [2] float32 in [-J, J]


@struct.dataclass
class ReacherState:
    """How the arm stands and moves."""

    angles: Array  # [J] float32, rad, of each link against the x axis
    speeds: Array  # [J] float32, rad / s
    time: Array  # [] int32, steps of this episode


@environments.register("Reacher-v0", paper="Lange 2022 (gymnax)")
@dataclasses.dataclass(frozen=True)
class Reacher(UnknownOptimum[ReacherTask]):
    """Observation: cosines [J], sines [J] and speeds [J] of the links. Action: their accelerations [J] in [-1, 1].

    J links of length 1 hang on each other, each turned against the x axis by its own angle. A step pays exp(-d^2), d
    the distance of the hand to the goal behind the step. Episodes have H steps and begin at uniform angles with speeds
    uniform in [-1, 1]; nothing slows an arm down. Goals are uniform in [-J, J]^2, of which the arm reaches the
    inscribed disc alone.

    With ``goal="shown"`` the observation ends in the goal (x, y), and an episode is one of gymnax's Reacher-misc. There
    every episode draws a goal of its own; here the goal is the task's, for all its episodes, and is to be found. The
    optimum is not known in closed form: there is no regret, and no oracle plays.
    """

    joints: int = setting(2, low=1, high=64, help="J, links of the arm")
    horizon: int = setting(100, low=1, high=4096, help="H, steps in an episode")
    goal: str = setting("hidden", choices=GOALS, help="whether observations end in the goal (shown) or not")

    @property
    def spec(self) -> EnvSpec:
        shape = (3 * self.joints + 2 * (self.goal == "shown"),)
        most = max(1.0 + SECONDS * self.horizon, float(self.joints))  # a speed, or a coordinate of the goal
        return EnvSpec(
            type(self).__name__, 0, shape, -most, most, self.horizon,
            action_box=Box.cube(self.joints), knows_optimum=False,
        )  # fmt: skip

    def sample_task(self, key: Array) -> ReacherTask:
        reach = float(self.joints)
        return ReacherTask(goal=uniform(key, (2,), -reach, reach), max_steps_in_episode=self.horizon)

    def validate_task(self, params: ReacherTask) -> None:
        super().validate_task(params)
        goal, reach = np.asarray(params.goal), self.joints
        require(bool(np.all(np.abs(goal) <= reach)), "task.goal", goal.tolist(), f"(x, y) in [-{reach}, {reach}]^2")

    def reset_env(self, key: Array, params: ReacherTask) -> tuple[Array, ReacherState]:
        key_angles, key_speeds = split(key)
        angles = uniform(key_angles, (self.joints,), -math.pi, math.pi)
        state = ReacherState(angles, uniform(key_speeds, (self.joints,), -1.0, 1.0), jnp.int32(0))
        return self._observe(params, state), state

    def step_env(
        self, key: Array, state: ReacherState, action: Array, params: ReacherTask
    ) -> tuple[Array, ReacherState, Array, Array, dict[str, Array]]:
        del key
        speeds = state.speeds + SECONDS * jnp.clip(action, -1.0, 1.0)
        after = ReacherState(state.angles + SECONDS * speeds, speeds, state.time + 1)
        hand = jnp.stack([jnp.sum(jnp.cos(after.angles)), jnp.sum(jnp.sin(after.angles))])
        reward = jnp.exp(-jnp.sum(jnp.square(hand - params.goal)))
        return self._observe(params, after), after, reward, jnp.bool_(False), {}

    def is_truncated(self, state: ReacherState, params: ReacherTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def _observe(self, params: ReacherTask, state: ReacherState) -> Array:
        seen = [jnp.cos(state.angles), jnp.sin(state.angles), state.speeds]
        return jnp.concatenate([*seen, params.goal] if self.goal == "shown" else seen)

    def scene(self, params: ReacherTask, state: ReacherState, episode: Episode) -> Plane:
        del episode
        angles = np.asarray(state.angles, float)
        ends = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)
        x, y = np.asarray(params.goal, float).tolist()
        rods = np.concatenate([np.zeros((1, 2)), ends])
        return Plane(self.joints + 0.3, ends[-1:], (Mark("goal", (x, y)),), rods)
