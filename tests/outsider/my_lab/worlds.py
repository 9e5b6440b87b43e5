import dataclasses

import jax
import jax.numpy as jnp

from icrl.core import struct
from icrl.core.registry import environments
from icrl.core.types import Environment, EnvSpec, TaskParams


@struct.dataclass
class DoorsTask(TaskParams):
    pays: jax.Array = struct.field(default_factory=lambda: jnp.zeros(3))  # of each door


@environments.register("Doors-v0", paper="-")
@dataclasses.dataclass(frozen=True)
class Doors(Environment[DoorsTask]):
    horizon: int = 10

    @property
    def spec(self):
        return EnvSpec("Doors", 3, (1,), 0.0, 1.0, self.horizon, is_stationary_bandit=True)

    def sample_task(self, key):
        return DoorsTask(pays=jax.random.uniform(key, (3,)), max_steps_in_episode=self.horizon)

    def reset_env(self, key, params):
        return jnp.ones(1), jnp.int32(0)

    def step_env(self, key, state, action, params):
        return jnp.ones(1), state + 1, params.pays[action], jnp.bool_(False), {}

    def is_truncated(self, state, params):
        return state >= params.max_steps_in_episode

    def optimal_action(self, params, state):
        return jnp.argmax(params.pays).astype(jnp.int32)

    def regret(self, params, state, action):
        return params.pays.max() - params.pays[action]

    def optimal_return(self, params):
        return params.pays.max() * params.max_steps_in_episode
