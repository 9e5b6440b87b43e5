"""Advantage actor-critic: one gradient step a rollout (the synchronous form of A3C, the source of Laskin et al.)."""

from typing import Any, ClassVar, Self

from icrl.agents._grids import each
from icrl.agents.ppo import MAX_STEPS, PPO
from icrl.core import struct
from icrl.core.errors import require_int
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Environment, Grid


@agents.register("a2c", paper="Mnih et al. 2016; Laskin et al. 2022, appendix H")
@struct.dataclass
class A2C(PPO):
    """PPO with one epoch of one batch: at a ratio of 1 the surrogate's gradient is the policy gradient.

    Entropy weight, discount and lambda are those of Laskin et al. 2022; their 100 actors are ``Streams``. Departures:
    learning rate 1e-3 (theirs 1e-4), two layers of 64 units with tanh (theirs three of 128), Adam's epsilon 1e-5
    (theirs 1e-6), and advantages are normalised, of which they say nothing.
    """

    num_epochs: int = setting(1, low=1, high=2**20, static=True, help="passes over a rollout")
    learning_rate: float = 1e-3
    entropy_weight: float = 0.01

    grid: ClassVar[Grid] = (*each("learning_rate", 3e-4, 3e-3, 1e-2), {"learning_rate": 3e-3, "entropy_weight": 0.0})

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        steps = require_int("num_steps", settings.get("num_steps", cls.num_steps), 1, MAX_STEPS)
        return super().for_env(env, **{"batch_size": steps * (env.num_streams or 1), **settings})
