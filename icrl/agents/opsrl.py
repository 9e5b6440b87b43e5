"""Optimistic PSRL: the best that several draws from the posterior promise (Osband's TabulaRL; Duan et al. 2016)."""

import jax

from icrl.agents._planner import Counts
from icrl.agents.psrl import PSRL
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array


@agents.register("opsrl", paper="Duan et al. 2016")
@struct.dataclass
class OptimisticPSRL(PSRL):
    """Each episode follows max_m Q*_m, pair by pair and step by step, over ``num_samples`` draws from the posterior.

    Priors and settings are those of ``psrl``.
    """

    num_samples: int = setting(10, low=1, high=2**16, static=True, help="draws from the posterior in a plan")

    def plan(self, key: Array, counts: Counts, q: Array) -> Array:
        one = super().plan
        return jax.vmap(lambda key: one(key, counts, q))(jax.random.split(key, self.num_samples)).max(0)
