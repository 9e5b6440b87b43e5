"""What environments on MuJoCo's MJX share: gymnasium's planar robots, in float32 and in JAX (extra ``mjx``).

The models are the files that come with gymnasium. They are read, and MuJoCo is imported, at the first reset: settings,
task draws and ``spec`` do without. MJX is run by its implementation in JAX on every platform (not by Warp's).

Its solver iterates, so that a step alone and under ``vmap`` differ by rounding: 1e-6 in observations and 7e-5 in
accelerations of up to 86 (five tasks, 2026-11-30, two CPU cores), more than the law of environments lets pass.
"""

import contextlib
import dataclasses
import functools
import io
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.boxes import Box
from icrl.core.errors import InputError
from icrl.core.fields import setting
from icrl.core.precision import exact_products, in_32_bits
from icrl.core.types import Array, EnvSpec, Task
from icrl.envs._recorded import LARGEST
from icrl.envs._unknown_optimum import UnknownOptimum

WORST = 1e10  # mjMAXVAL: a position or velocity beyond it has diverged


@struct.dataclass
class RobotState:
    """Where the robot is, and what the solver starts from."""

    time: Array  # [] int32, actions done
    position: Array  # qpos [9] float32: x and z of the torso, m; its pitch and six joints, rad
    velocity: Array  # qvel [9] float32, of the same, per second
    warm_start: Array  # qacc [9] float32, of the last step of the physics


@dataclasses.dataclass(frozen=True)
class PlanarRobot(UnknownOptimum[Task]):
    """A torso and six joints in the plane. An action is a torque of each joint [6] in [-1, 1], times its gear.

    Observation [17]: position without x, then velocity, as in gymnasium. Episodes have H = 200 steps and never end
    early. The optimum is not known: there is no regret, and no oracle plays.
    """

    horizon: int = setting(200, low=1, high=4096, help="H, steps in an episode")

    FILE: ClassVar[str]  # of gymnasium's assets
    FRAMES: ClassVar[int]  # steps of the physics in a step

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            type(self).__name__, 0, (17,), -LARGEST, LARGEST, self.horizon,
            observes_state=False,  # the solver's start is not shown
            action_box=Box.cube(6), knows_optimum=False,
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        """Length of a step."""
        return self.FRAMES * float(model_of(self.FILE).opt.timestep)

    def begin(self, position_noise: Array, velocity_noise: Array) -> RobotState:
        """At rest in the pose of the file, but for the noise [9] each."""
        start = jnp.asarray(model_of(self.FILE).qpos0, jnp.float32)
        return RobotState(jnp.int32(0), start + position_noise, velocity_noise, jnp.zeros(9, jnp.float32))

    def advance(self, state: RobotState, action: Array, **changed: Array) -> tuple[RobotState, Array]:
        """(State a step later, mean speed forward [] in m / s); ``changed`` are fields of MuJoCo's model.

        What diverges returns to the pose of the file, as in MuJoCo itself (mj_checkPos, mj_checkVel).
        """
        found = _physics(self.FILE, self.FRAMES, state, action, changed)
        bad = [~(jnp.abs(leaf) < WORST) for leaf in (found.position, found.velocity, found.warm_start)]  # NaN is bad
        diverged, still = jnp.any(jnp.stack(bad)), jnp.zeros(9, jnp.float32)
        after = jax.tree.map(lambda fresh, x: jnp.where(diverged, fresh, x), self.begin(still, still), found)
        after = dataclasses.replace(after, time=state.time + 1)
        return after, (after.position[0] - state.position[0]) / jnp.float32(self.seconds)

    def is_truncated(self, state: RobotState, params: Task) -> Array:
        return state.time >= params.max_steps_in_episode


@exact_products
def _physics(file: str, frames: int, state: RobotState, action: Array, changed: dict[str, Array]) -> RobotState:
    """``frames`` steps of MuJoCo's with the torques held; quantities that follow from the state are computed anew."""
    from mujoco import mjx

    with jax.numpy_rank_promotion("allow"):  # MJX relies on it, whatever the program asks of its own arrays
        model, data = jax.tree.map(jnp.asarray, _compiled(file))
        model = model.replace(**changed)
        data = data.replace(
            qpos=state.position, qvel=state.velocity, qacc_warmstart=state.warm_start, ctrl=action.astype(jnp.float32)
        )
        data, _ = jax.lax.scan(lambda now, _: (mjx.step(model, now), None), data, length=frames)
    return RobotState(state.time, data.qpos, data.qvel, data.qacc_warmstart)


@functools.cache
def model_of(file: str) -> Any:
    """MuJoCo's own model (``mujoco.MjModel``) of a file of gymnasium's.

    Raises:
      InputError: MuJoCo or MJX is not installed.
    """
    import gymnasium

    try:
        import mujoco

        with contextlib.redirect_stdout(io.StringIO()):  # MJX prints that Warp is not there
            import mujoco.mjx
    except ImportError as error:
        raise InputError(f"{file}: needs MuJoCo and MJX ({error}); pip install 'icrl[mjx]'") from None
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file
    heard = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)  # a file uses what is deprecated: MuJoCo would log it beside the run
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    finally:
        mujoco.set_mju_user_warning(heard)


@functools.cache
@in_32_bits
def _compiled(file: str) -> Any:
    """(mjx.Model, mjx.Data) with NumPy's arrays, which belong to no trace and no device."""
    from mujoco import mjx

    model = model_of(file)
    with jax.ensure_compile_time_eval():
        both = mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")
        return jax.tree.map(np.asarray, both)
