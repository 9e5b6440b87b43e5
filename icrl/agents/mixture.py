"""One of two agents, drawn once a life: the mixed pretraining data of Lin et al. 2023 (section 5)."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import bernoulli, split
from icrl.core.types import Agent, Array, Environment, Transition


class MixtureState(NamedTuple):
    """Both agents' memories, and which of the two acts."""

    is_first: Array  # [] bool
    memories: tuple[Any, Any]


@agents.register("mixture", paper="Lin et al. 2023")
@struct.dataclass
class Mixture(Agent):
    """With probability ``share`` the agent ``first`` lives this life, else ``second``; both see all of it.

    ``for_env`` takes their registered names; by default the second is ``uniform``.
    """

    first: Agent
    second: Agent
    share: float = setting(0.5, low=0.0, high=1.0, help="probability that the first agent acts")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        names = settings.get("first", "uniform"), settings.get("second", "uniform")
        for field, name in zip(("first", "second"), names, strict=True):
            require(isinstance(name, str), field, name, "the name of an agent")
            require(name != "mixture", "mixture", name, "two other agents")
        first, second = (agents[name].for_env(env) for name in names)
        require(
            not (first.sees_env_state or second.sees_env_state), "mixture", names, "agents that see what others see"
        )
        return cls(**{**settings, "first": first, "second": second})

    def init(self, key: Array) -> MixtureState:
        key_which, key_first, key_second = split(key, 3)
        is_first = bernoulli(key_which, self.share)
        return MixtureState(is_first, (self.first.init(key_first), self.second.init(key_second)))

    def act(self, key: Array, state: MixtureState, obs: Array) -> Array:
        key_first, key_second = split(key)
        first, second = state.memories
        return jnp.where(
            state.is_first, self.first.act(key_first, first, obs), self.second.act(key_second, second, obs)
        )

    def update(self, state: MixtureState, transition: Transition) -> MixtureState:
        first, second = state.memories
        return MixtureState(
            state.is_first, (self.first.update(first, transition), self.second.update(second, transition))
        )
