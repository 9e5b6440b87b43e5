"""LinUCB: optimism for linear rewards (Abbasi-Yadkori et al. 2011; as used by Lee et al. 2023 and Lin et al. 2023)."""

from typing import Any, Self

import jax.numpy as jnp

from icrl.agents._grids import multiples
from icrl.agents._linear_agent import LinearAgent, LinearStats
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import randint
from icrl.core.types import Array, Environment, Grid

LEE_2023, LIN_2023 = (1.0, 0.3), (2.0, 1.5)  # beta, and the noise under which it was used
BINARY = 0.5  # sub-Gaussian scale of rewards 0 and 1


@agents.register("linucb", paper="Abbasi-Yadkori et al. 2011")
@struct.dataclass
class LinUCB(LinearAgent):
    """argmax <theta, x_a> + beta ||x_a||_{V^-1} with V = lam I + sum x x^T and theta = V^-1 sum r x.

    The first action is uniformly random (Lee et al. 2023, A.2). Lee et al. use beta = 1 on fixed features under a noise
    of 0.3, Lin et al. beta = 2 on shown ones under a noise of 1.5, both lam = 1. ``for_env`` takes these in proportion
    to the environment's noise (rewards 0 and 1 have 1/2): beta = 2 explores too much under a noise of .5 (preset cpu of
    ``tadm-linear``: regret 4.88 after 100 steps, 3.33 with 1, 3.25 with .5; measured 2026-11-27). They fall no further
    than to a noise of 0.3: what the ridge leaves unknown does not go with the noise, and without a bonus nothing is
    explored.
    """

    beta: float = setting(1.0, low=0.0, help="scale of the bonus, reward units")
    lam: float = setting(1.0, low=0.0, open_low=True, help="ridge")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        noise = BINARY if env.noise_std is None else max(env.noise_std, LEE_2023[1])
        published, under = LEE_2023 if env.features is not None else LIN_2023
        return super().for_env(env, **{"beta": published * noise / under, **settings})

    @classmethod
    def candidates(cls, env: Environment) -> Grid:
        return multiples(cls, env, ("beta",), (0.25, 0.5, 2.0, 4.0))

    def index(self, state: LinearStats, obs: Array, beta: Array | float) -> Array:
        """The optimistic value of every arm, [K]."""
        arms, moment = self.whiten(state, obs, self.lam)
        return moment @ arms + beta * jnp.sqrt(jnp.sum(jnp.square(arms), axis=0))

    def act(self, key: Array, state: LinearStats, obs: Array) -> Array:
        best = jnp.argmax(self.index(state, obs, self.beta)).astype(jnp.int32)
        return jnp.where(state.time == 0, randint(key, (), 0, self.num_arms), best)

    def act_greedy(self, key: Array, state: LinearStats, obs: Array) -> Array:
        """Ridge regression without a bonus, the LinReg of Lee et al.; arm 0 when nothing was seen."""
        del key
        return jnp.argmax(self.index(state, obs, 0.0)).astype(jnp.int32)
