"""Rewards 0 and 1 with log-odds linear in fresh features: generalised linear bandits (Filippi et al. 2010)."""

import dataclasses

import jax

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.types import Array
from icrl.envs._sphere_features import SphereFeatures


@environments.register("ContextualLogisticBandit-v0", paper="Filippi et al. 2010")
@dataclasses.dataclass(frozen=True)
class ContextualLogisticBandit(SphereFeatures):
    """P(reward 1) = sigmoid <theta, x_a>; theta on the sphere of radius ``theta_norm``, x_a on the unit sphere."""

    theta_norm: float = setting(4.0, low=0.0, open_low=True, help="length of theta")

    @property
    def norm(self) -> float:
        return self.theta_norm

    def link(self, score: Array) -> Array:
        return jax.nn.sigmoid(score)
