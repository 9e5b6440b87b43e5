"""Discounted UCB for arms that change (Kocsis, Szepesvari 2006; as analysed by Garivier, Moulines 2011)."""

import math
from typing import Any, ClassVar, NamedTuple, Self

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmAgent, argmax_untried_first
from icrl.agents._grids import each
from icrl.core import struct
from icrl.core.errors import require_int
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Environment, Grid, Transition

MOST_FADED = 0.5  # in a step: a shorter memory is none


class FadedStats(NamedTuple):
    """Arm statistics in which a pull of k steps ago weighs discount^k."""

    count: Array  # type: ignore[assignment]  # [K] float32
    total: Array  # [K] float32


@agents.register("discounted-ucb", paper="Garivier, Moulines 2011")
@struct.dataclass
class DiscountedUCB(ArmAgent):
    """argmax m_a + 2 B sqrt(xi ln(sum n) / n_a) with counts n_a and means m_a that fade by ``discount`` a step.

    Garivier, Moulines 2011, On Upper-Confidence Bound Policies for Switching Bandit Problems, section 3.1; xi = 0.6 and
    B = 1 as in their experiments, for rewards in [0, 1]. For S changes in T steps they advise the discount
    1 - sqrt(S / T) / (4 B), which ``for_env`` takes with T the length of an episode and S = ``num_segments`` - 1, as
    ``exp3-s`` counts changes.
    """

    discount: float = setting(
        0.98,
        low=0.0,
        high=1.0,
        open_low=True,
        help="factor by which counts and sums fade in a step",
    )
    xi: float = setting(0.6, low=0.0, help="scale of the bonus, no unit")
    reward_range: float = setting(1.0, low=0.0, open_low=True, help="B, largest less smallest reward")

    grid: ClassVar[Grid] = each("xi", 0.01, 0.03, 0.1, 0.3)

    @classmethod
    def for_env(cls, env: Environment, num_segments: int = 4, **settings: Any) -> Self:
        agent = super().for_env(env, **settings)
        changes = require_int("num_segments", num_segments, 1, 2**31 - 1) - 1
        if "discount" in settings:
            return agent
        faded = math.sqrt(changes / env.spec.max_steps_in_episode) / (4.0 * agent.reward_range)
        faded = (
            min(faded, MOST_FADED) if isinstance(faded, float) else jnp.minimum(faded, MOST_FADED)
        )  # one, or a sweep
        return agent.replace(discount=1.0 - faded)  # type: ignore[attr-defined]

    def init(self, key: Array) -> FadedStats:
        del key
        return FadedStats(jnp.zeros(self.num_arms, jnp.float32), jnp.zeros(self.num_arms, jnp.float32))

    def act(self, key: Array, state: FadedStats, obs: Array) -> Array:
        del key, obs
        # a count never fades to 0 in float32 before its bonus has long been the largest
        n = jnp.where(state.count > 0, state.count, 1.0)
        log_time = jnp.log(jnp.maximum(jnp.sum(state.count), 1.0))
        bonus = 2.0 * self.reward_range * jnp.sqrt(self.xi * log_time / n)
        return argmax_untried_first(state.total / n + bonus, state.count)

    def update(self, state: FadedStats, transition: Transition) -> FadedStats:
        pulled = jnp.arange(self.num_arms) == transition.action
        total = self.discount * state.total + jnp.where(pulled, transition.reward, 0.0)
        return FadedStats(self.discount * state.count + pulled, total)
