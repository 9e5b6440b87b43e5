"""The in-context agent whose context stands in order of return: what it has done worst first, what it does now last."""

from typing import Any, Self

import jax
import jax.numpy as jnp

from icrl.agents._window_agent import WindowAgent, WindowState
from icrl.agents.in_context import InContextState
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import required
from icrl.core.registry import agents
from icrl.core.types import Array, Environment, Transition


@agents.register("sorted-context", paper="Wu et al. 2025")
@struct.dataclass
class SortedContextAgent(WindowAgent):
    """A context of whole episodes of ``episode_steps`` = H, read again behind each of them in order of return.

    Of its C / H episodes the last is the one under way; in front of it stand the latest ones in ascending order of
    return, ties by time. So contexts stand in training with ``--context-order return``, and here in T2MIR-AD's
    released code. An episode ends every H steps, whatever the flags say. It costs at most C / H - 1 tokens read for
    each that is new. Tasks of a batch take their steps together, so under ``vmap`` nothing is read in vain.
    """

    episode_steps: int = required(low=1, high="max_steps", static=True, kw_only=True, help="H, steps of every episode")

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = f"a divisor of the context's {self.max_steps} steps"
        require(self.max_steps % self.episode_steps == 0, "episode_steps", self.episode_steps, allowed)

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return super().for_env(env, **{"episode_steps": env.spec.max_steps_in_episode, **settings})

    def update(self, state: WindowState, transition: Transition) -> WindowState:
        after = self.appended(state, transition)
        return jax.lax.cond(after.fill % self.episode_steps == 0, self._sorted, lambda same: same, after)

    def _sorted(self, state: WindowState) -> WindowState:
        """Without the oldest episode if the window is full; the window stays in order of time, the memory does not."""
        H, is_full = self.episode_steps, state.fill == self.max_steps
        window = jax.tree.map(lambda rows: jnp.where(is_full, jnp.roll(rows, -H, axis=0), rows), state.window)
        episodes = jax.tree.map(lambda rows: rows.reshape(-1, H, *rows.shape[1:]), window)
        count = state.fill // H - is_full
        order = _ascending(episodes.reward.sum(1), count)

        def read_one(place: Array, memory: InContextState) -> InContextState:
            return self.reader.read(memory, jax.tree.map(lambda each: each[order[place]], episodes))

        memory = jax.lax.fori_loop(0, count, read_one, self.reader.init(jax.random.key(0)))
        return WindowState(window, count * H, memory)


def _ascending(returns: Array, count: Array) -> Array:
    """The first ``count`` [] places of ``returns`` [E] by what stands there, ties as they stand; then the others."""
    return jnp.argsort(jnp.where(jnp.arange(returns.shape[0]) < count, returns, jnp.inf), stable=True)
