"""UCB-VI: optimistic planning in an empirical model, for episodic tasks with numbered states (Azar et al. 2017)."""

from typing import Any, Self

import jax.numpy as jnp
from flax import struct

from icrl.agents.planner import Counts, Planner
from icrl.planning import backward_induction
from icrl.registry import agents
from icrl.types import Array, Environment


@agents.register("ucb-vi", paper="Azar et al. 2017")
@struct.dataclass
class UCBVI(Planner):
    """Backward induction at the end of each episode: Q_h = min((H - h) r_max, r + bonus + P V_{h+1}).

    The bonus is Hoeffding's form, ``bonus_scale`` r_max (H - h) sqrt(ln(5 S K N / delta) / n(s, a)) with N transitions
    so far; pairs never tried keep (H - h) r_max. The paper's UCBVI-CH has a scale of 7 sqrt(ln ...), which explores for
    all of a short life; the default is a practical one. Rewards are estimated, transitions do not depend on the step.
    ``r_max`` is read off the environment where it tells one.
    """

    bonus_scale: Any = 0.01
    delta: Any = 0.05
    r_max: Any = 1.0

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return super().for_env(env, **{"r_max": getattr(env, "r_max", 1.0), **settings})

    def plan(self, key: Array, counts: Counts) -> Array:
        """Optimistic Q [H, S, K]; nothing is drawn."""
        del key
        n = counts.tries
        tried = jnp.maximum(n, 1)
        log = jnp.log(5.0 * n.size * jnp.maximum(n.sum(), 1) / self.delta)
        width = self.bonus_scale * self.r_max * jnp.sqrt(log / tried)
        left = jnp.arange(self.spec.max_steps_in_episode, 0, -1, dtype=jnp.float32)  # H - h
        optimistic = counts.reward / tried + left[:, None, None] * width
        reward = jnp.where(n > 0, optimistic, jnp.inf)  # cut at the ceiling
        return backward_induction(counts.visits / tried[..., None], reward, left * self.r_max)
