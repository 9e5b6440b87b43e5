"""CartPole of which only a part is seen: positions or velocities, with noise (Morad et al. 2023; Barto et al. 1983)."""

import dataclasses
import math

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import normal, split, uniform
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._levels import Levelled

GRAVITY, FORCE, SECONDS = 9.8, 10.0, 0.02  # m / s^2, N, of a step
CART, POLE, HALF = 1.0, 0.1, 0.5  # kg, kg, half the length of the pole in m
MASS = CART + POLE
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * math.pi / 180  # beyond which the pole counts as fallen
START = 0.05  # each number begins uniformly in [-START, START)
BALANCE = (0.1, 0.2, 1.0, 0.3)  # push to the side to which this sum leans; holds from every start
SHOWN = {"position": (0, 2), "velocity": (1, 3), "all": (0, 1, 2, 3)}
FASTEST = 10.0  # m / s and rad / s, more than a pole in play can have


@struct.dataclass
class CartPoleState:
    """Where cart and pole are."""

    time: Array  # [] int32, actions done
    physics: Array  # [4] float32: position and velocity of the cart, angle and angular velocity of the pole


@environments.register("CartPole-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class CartPole(Levelled):
    """Observation [2]: position and angle, their velocities, or [4] all of them. Action: push to the left or right.

    Each step earns 1 / T, the one in which the pole falls as well, which terminates the episode; T = 200, 400 or 600
    steps are its time limit. The equations are those of gymnasium's CartPole-v1, in float32. POPGym's tasks:

    - PositionOnlyCartPole: the default, in its three levels; a random player gets 0.11, 0.06 and 0.04.
    - VelocityOnlyCartPole: ``shows="velocity"``. The first observation of an episode is position and angle all the
      same: a slip of POPGym's, kept since its published results rest on it.
    - NoisyPositionOnlyCartPole: ``noise`` 0.1, 0.2 or 0.3 with the level easy, so that T = 200. What is shown is
      clipped to twice the limits of position and angle.

    The optimum is 1: a linear rule on the full state balances for good. ``regret`` is what falling in this step leaves
    unearned, so regrets add up to 1 less the return; which earlier action made it too late it does not tell.
    """

    shows: str = setting("position", choices=tuple(SHOWN), help="what is seen of cart and pole")
    noise: float = setting(0.0, low=0.0, high=10.0, help="standard deviation of the noise on what is seen")
    steps: int | None = setting(None, low=1, high=2**20, help="T, steps in an episode; none: as many as the level has")

    @property
    def num_steps(self) -> int:
        """T."""
        return self.by_level(self.steps, 200, 400, 600)

    @property
    def spec(self) -> EnvSpec:
        high = 2 * X_LIMIT if self.shows == "position" else FASTEST
        shape, sees = (len(SHOWN[self.shows]),), self.shows == "all" and self.noise == 0.0
        return EnvSpec(type(self).__name__, 2, shape, -high, high, self.num_steps, ends_early=True, observes_state=sees)

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, CartPoleState]:
        del params
        key_start, key_noise = split(key)
        state = CartPoleState(jnp.int32(0), uniform(key_start, (4,), -START, START))
        shown = SHOWN["position" if self.shows == "velocity" else self.shows]
        return self._observe(key_noise, state, shown), state

    def step_env(
        self, key: Array, state: CartPoleState, action: Array, params: TaskParams
    ) -> tuple[Array, CartPoleState, Array, Array, dict[str, Array]]:
        del params
        after = CartPoleState(state.time + 1, pushed(state.physics, action))
        obs = self._observe(key, after, SHOWN[self.shows])
        return obs, after, jnp.float32(1 / self.num_steps), has_fallen(after.physics), {}

    def _observe(self, key: Array, state: CartPoleState, shown: tuple[int, ...]) -> Array:
        seen = jnp.stack([state.physics[i] for i in shown])
        if self.noise == 0.0:
            return seen
        limits = jnp.array([2 * X_LIMIT, FASTEST, 2 * ANGLE_LIMIT, FASTEST], jnp.float32)[jnp.array(shown)]
        return jnp.clip(seen + jnp.float32(self.noise) * normal(key, seen.shape), -limits, limits)

    def optimal_action(self, params: TaskParams, state: CartPoleState) -> Array:
        """Push to the side to which the pole leans and moves, and the cart has strayed."""
        del params
        return (jnp.sum(jnp.array(BALANCE, jnp.float32) * state.physics) > 0).astype(jnp.int32)

    def regret(self, params: TaskParams, state: CartPoleState, action: Array) -> Array:
        """The steps that would have been left, over T, if the pole falls now."""
        left = (params.max_steps_in_episode - state.time - 1) / jnp.float32(self.num_steps)
        return jnp.where(has_fallen(pushed(state.physics, action)), left, 0.0)

    def optimal_return(self, params: TaskParams) -> Array:
        del params
        return jnp.float32(1.0)


def pushed(physics: Array, action: Array) -> Array:
    """Cart and pole [4] a step of Euler later (Barto et al. 1983, with Florian's 2005 correction, no friction)."""
    _, speed, angle, spin = physics
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    push = (jnp.where(action == 1, jnp.float32(FORCE), -FORCE) + POLE * HALF * spin**2 * sin) / MASS
    spin_rate = (GRAVITY * sin - cos * push) / (HALF * (4 / 3 - POLE * cos**2 / MASS))
    speed_rate = push - POLE * HALF * spin_rate * cos / MASS
    return physics + SECONDS * jnp.stack([speed, speed_rate, spin, spin_rate])


def has_fallen(physics: Array) -> Array:
    """Whether the cart has left its track or the pole leans too far, [] bool."""
    return (jnp.abs(physics[0]) > X_LIMIT) | (jnp.abs(physics[2]) > ANGLE_LIMIT)
