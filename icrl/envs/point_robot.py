"""Point-Robot: walk to an unseen goal in the plane, with continuous moves (Rakelly et al. 2019; Wu et al. 2025)."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.boxes import Box
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import Episode, Mark, Plane
from icrl.core.threefry import uniform
from icrl.core.types import Array, Environment, EnvSpec, TaskParams

STEP = 0.1  # length of a move along each axis, at most
START = 0.1  # episodes begin uniformly in [-START, START)^2
NODES, WEIGHTS = np.polynomial.legendre.leggauss(4)


@struct.dataclass
class PointRobotTask(TaskParams):
    """Where the goal is."""

    goal: Array = struct.field(default_factory=lambda: jnp.zeros(2, jnp.float32))  # (x, y) [2] float32 in [-1, 1]


@struct.dataclass
class PointRobotState:
    """Where and when the robot is."""

    position: Array  # (x, y) [2] float32
    time: Array  # [] int32, steps of this episode


@environments.register("PointRobot-v0", paper="Wu et al. 2025")
@dataclasses.dataclass(frozen=True)
class PointRobot(Environment[PointRobotTask]):
    """Observation: the position (x, y). Action: a move (dx, dy) in [-1, 1]^2, of which a tenth is made; no walls.

    Goals are uniform in [-1, 1]^2, episodes of H = 20 steps begin uniformly in [-.1, .1]^2, and each step costs the
    Euclidean distance to the goal behind it: the version of T2MIR (Wu et al. 2025) and its released code, which has 50
    fixed goals in place of the prior.

    The optimum is exact. Along either axis the gap to the goal can shrink by .1 a step and no more, whatever the other
    axis does, so going along both as fast as they allow makes both gaps, and with them every distance to come, as small
    as can be: ``a = clip((goal - position) / .1, -1, 1)``. That is not the straight line, unless the goal lies on a
    diagonal. An optimal episode costs 2.398 on average over goals, one of uniform actions 15.94 +- .04 (20 000 goals).
    """

    horizon: int = setting(20, low=1, high=4096, help="H, steps in an episode")

    @property
    def spec(self) -> EnvSpec:
        reach = START + STEP * self.horizon
        return EnvSpec(type(self).__name__, 0, (2,), -reach, reach, self.horizon, action_box=Box.cube(2))

    def sample_task(self, key: Array) -> PointRobotTask:
        return PointRobotTask(goal=uniform(key, (2,), -1.0, 1.0), max_steps_in_episode=self.horizon)

    def validate_task(self, params: PointRobotTask) -> None:
        super().validate_task(params)
        goal = np.asarray(params.goal)
        require(bool(np.all(np.abs(goal) <= 1)), "task.goal", goal.tolist(), "(x, y) in [-1, 1]^2")

    def reset_env(self, key: Array, params: PointRobotTask) -> tuple[Array, PointRobotState]:
        del params
        return self._at(uniform(key, (2,), -START, START))

    def random_state(self, key: Array, params: PointRobotTask) -> tuple[Array, PointRobotState]:
        """A uniform place in the square of the goals, at the start of an episode."""
        del params
        return self._at(uniform(key, (2,), -1.0, 1.0))

    def _at(self, position: Array) -> tuple[Array, PointRobotState]:
        return position, PointRobotState(position, jnp.int32(0))

    def step_env(
        self, key: Array, state: PointRobotState, action: Array, params: PointRobotTask
    ) -> tuple[Array, PointRobotState, Array, Array, dict[str, Array]]:
        del key
        position = _moved(state.position, action)
        reward = -_length(params.goal - position)
        return position, PointRobotState(position, state.time + 1), reward, jnp.bool_(False), {}

    def is_truncated(self, state: PointRobotState, params: PointRobotTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: PointRobotTask, state: PointRobotState) -> Array:
        return jnp.clip((params.goal - state.position) / STEP, -1.0, 1.0)

    def regret(self, params: PointRobotTask, state: PointRobotState, action: Array) -> Array:
        """What the action costs of the return of this episode, to float32's rounding of it."""
        best = self.optimal_action(params, state)
        left = params.max_steps_in_episode - state.time

        def worth(a: Array) -> Array:
            gap = jnp.abs(params.goal - _moved(state.position, a))
            return -_length(gap) + self._value(gap, left - 1)

        lost = worth(best) - worth(action)
        # One rounding of the position, of as much as 2^-23 of it, is one of all distances to come.
        return jnp.where(lost > 1e-6 * self.horizon, lost, 0.0)

    def _value(self, gap: Array, left: Array) -> Array:
        """Optimal return of ``left`` more steps from a gap [..., 2] >= 0 to the goal along each axis, [...]."""
        steps = jnp.arange(1, self.horizon + 1, dtype=jnp.float32)
        covered = (STEP * steps).reshape(-1, *[1] * gap.ndim)  # [H, 1, ...]
        costs = _length(jnp.maximum(gap[None] - covered, 0.0))
        return -jnp.sum(costs, where=(steps <= left).reshape(-1, *[1] * (gap.ndim - 1)), axis=0)

    def optimal_return(self, params: PointRobotTask) -> Array:
        """The mean over starts, by Gauss's rule on the pieces of which distances are smooth in the start."""
        shares, gaps = zip(*(_starts(goal) for goal in params.goal), strict=True)
        both = jnp.stack(jnp.meshgrid(*gaps, indexing="ij"), axis=-1)  # [n, n, 2]
        return shares[0] @ self._value(both, jnp.int32(self.horizon)) @ shares[1]

    def scene(self, params: PointRobotTask, state: PointRobotState, episode: Episode) -> Plane:
        x, y = np.asarray(params.goal, float).tolist()
        return Plane(1.2, np.asarray(episode.obs, float), (Mark("goal", (x, y)),))


def _starts(goal: Array) -> tuple[Array, Array]:
    """Along one axis: nodes of the mean over starts, as their shares [n] and their gaps [n] to the goal."""
    within = jnp.mod(goal, STEP)  # where a gap is a whole number of steps
    cuts = jnp.stack([jnp.float32(-START), within - STEP, within, jnp.float32(START)])
    middle, half = (cuts[1:, None] + cuts[:-1, None]) / 2, (cuts[1:, None] - cuts[:-1, None]) / 2
    nodes, weights = (jnp.array(values, jnp.float32)[None] for values in (NODES, WEIGHTS))
    return (half * weights).reshape(-1) / (2 * START), jnp.abs(goal - (middle + half * nodes)).reshape(-1)


def _moved(position: Array, action: Array) -> Array:
    return position + STEP * jnp.clip(action, -1.0, 1.0)


def _length(vector: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(vector), axis=-1))
