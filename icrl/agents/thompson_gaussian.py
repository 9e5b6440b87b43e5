"""Gaussian Thompson sampling (Thompson 1933; the TS of Lee et al. 2023, A.2)."""

from typing import Any, Self

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent
from icrl.agents._grids import multiples
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.lanes import argmax_first, tasks_behind
from icrl.core.registry import agents
from icrl.core.threefry import normal, normal_at, symmetric
from icrl.core.types import Array, Environment, Grid

OFFLINE_DRAWS = 100


@agents.register("thompson-gaussian", paper="Lee et al. 2023")
@struct.dataclass
class ThompsonGaussian(ArmStatsAgent):
    """Conjugate normal posterior per arm: precision 1/v0 + n/s^2, mean (m0/v0 + sum r / s^2) / precision.

    Lee et al. use the normal prior N(1/2, 1/12), which has the mean and variance of the true U[0, 1], and the noise
    std 0.3 of training whatever the noise at test time; hence ``noise_std`` belongs to the agent, not the environment.
    In the linear setting they use the prior N(0, 1).
    """

    prior_mean: float = setting(0.5, low=-1e6, high=1e6, help="m0, prior mean of an arm, reward units")
    prior_var: float = setting(1.0 / 12.0, low=0.0, open_low=True, help="v0, prior variance of an arm")
    noise_std: float = setting(0.3, low=0.0, help="s, standard deviation of the reward noise, reward units")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        known = env.facts("noise_std")
        if env.features is not None:  # the linear setting, appendix A.3
            known |= {"prior_mean": 0.0, "prior_var": 1.0}
        return super().for_env(env, **{**known, **settings})

    @classmethod
    def candidates(cls, env: Environment) -> Grid:
        return multiples(cls, env, ("noise_std",), (0.25, 0.5, 2.0, 3.0))

    def posterior(self, state: ArmStats) -> tuple[Array, Array]:
        """Mean and standard deviation of mu_a given the data, [K] each."""
        noise_var = jnp.maximum(jnp.square(self.noise_std), 1e-12)
        precision = 1.0 / self.prior_var + state.count / noise_var
        mean = (self.prior_mean / self.prior_var + state.total / noise_var) / precision
        return mean, 1.0 / jnp.sqrt(precision)

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del obs
        return _best_draw(self, state, symmetric(key, (self.num_arms,)))

    def act_greedy(self, key: Array, state: ArmStats, obs: Array) -> Array:
        """Mode of 100 posterior draws, the offline rule of Lee et al."""
        del obs
        mean, std = self.posterior(state)
        draws = mean[None] + std[None] * normal(key, (OFFLINE_DRAWS, *mean.shape))
        votes = jnp.sum(jnp.argmax(draws, -1)[:, None] == jnp.arange(self.num_arms)[None], axis=0)
        return jnp.argmax(votes).astype(jnp.int32)


@tasks_behind
def _best_draw(agent: ThompsonGaussian, state: ArmStats, level: Array) -> Array:
    """The arm with the largest draw, made of ``level`` [K] uniform in (-1, 1)."""
    mean, std = agent.posterior(state)
    return argmax_first(mean + std * normal_at(level))
