"""CartPole behind a random projection of what is seen, a new one in every task (Lu et al. 2023, section 4.3)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import bits, normal, split
from icrl.core.types import Array, Environment, EnvSpec, TaskParams
from icrl.envs.cart_pole import SHOWN, CartPole, CartPoleState

GAIN = 2**0.5  # of the projection, whose columns are orthogonal


@struct.dataclass
class ProjectedTask(TaskParams):
    """What stands between the player and the game."""

    projection: Array = struct.field(kw_only=True)  # [seen, shown] float32
    swapped: Array = struct.field(kw_only=True)  # [] bool, whether the actions have changed places


@environments.register("ProjectedCartPole-v0", paper="Lu et al. 2023, section 4.3")
@dataclasses.dataclass(frozen=True)
class ProjectedCartPole(Environment[ProjectedTask]):
    """Observation [seen]: M x, with x what ``CartPole-v0`` shows and M sqrt 2 times a matrix of orthonormal columns.

    The task also says which action pushes to which side: the paper projects actions too, its released code does not
    (``projects="observations"``). Each step earns 1 / T, the fall of the pole ends the episode, T = 200. In a trial,
    several episodes of one task, the first have to find out what the later ones can use. Each step pays, so RL^2 wants
    ``--across-episodes false`` here.

    Departures: every episode begins anew (the released code begins all of a trial in the same state), and reward and
    ends are not part of the observation, as they are in every layout's tokens.
    """

    shows: str = setting("position", choices=tuple(SHOWN), help="what is projected of cart and pole")
    noise: float = setting(0.0, low=0.0, high=10.0, help="standard deviation of the noise on it")
    steps: int = setting(200, low=1, high=2**20, help="T, steps in an episode")
    seen: int = setting(4, low=4, high=4096, help="numbers that are seen")
    projects: str = setting("both", choices=("both", "observations"), help="actions change places as well, or not")

    @property
    def game(self) -> CartPole:
        """What is played."""
        return CartPole(shows=self.shows, noise=self.noise, steps=self.steps)

    @property
    def spec(self) -> EnvSpec:
        inner = self.game.spec
        high = GAIN * inner.obs_dim**0.5 * inner.obs_high
        name = type(self).__name__
        return dataclasses.replace(inner, name=name, obs_shape=(self.seen,), obs_low=-high, obs_high=high)

    def sample_task(self, key: Array) -> ProjectedTask:
        key_matrix, key_swap = split(key)
        columns: list[Array] = []
        for column in normal(key_matrix, (len(SHOWN[self.shows]), self.seen)):  # Gram and Schmidt
            for other in columns:
                column -= jnp.sum(column * other) * other
            columns.append(column / jnp.sqrt(jnp.sum(column**2)))
        swapped = (bits(key_swap, ()) & 1 == 1) & (self.projects == "both")
        matrix = GAIN * jnp.stack(columns, axis=1)
        return ProjectedTask(max_steps_in_episode=self.steps, projection=matrix, swapped=swapped)

    def reset_env(self, key: Array, params: ProjectedTask) -> tuple[Array, CartPoleState]:
        obs, state = self.game.reset_env(key, params)
        return params.projection @ obs, state

    def step_env(
        self, key: Array, state: CartPoleState, action: Array, params: ProjectedTask
    ) -> tuple[Array, CartPoleState, Array, Array, dict[str, Array]]:
        push = self._push(params, action)
        obs, state, reward, terminated, info = self.game.step_env(key, state, push, params)
        return params.projection @ obs, state, reward, terminated, info

    def _push(self, params: ProjectedTask, action: Array) -> Array:
        return jnp.where(params.swapped, 1 - action, action)

    def is_truncated(self, state: CartPoleState, params: ProjectedTask) -> Array:
        return self.game.is_truncated(state, params)

    def optimal_action(self, params: ProjectedTask, state: CartPoleState) -> Array:
        """Of a player who sees the state and knows the task."""
        return self._push(params, self.game.optimal_action(params, state))

    def regret(self, params: ProjectedTask, state: CartPoleState, action: Array) -> Array:
        return self.game.regret(params, state, self._push(params, action))

    def optimal_return(self, params: ProjectedTask) -> Array:
        return self.game.optimal_return(params)
