"""The in-context agent for rollouts longer than its context: it forgets the oldest steps and reads the rest again."""

import jax
import jax.numpy as jnp

from icrl.agents._window_agent import WindowAgent, WindowState
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Transition


@agents.register("rolling-context", paper="Laskin et al. 2022, algorithm 1; Son et al. 2025")
@struct.dataclass
class RollingContextAgent(WindowAgent):
    """A context of at most ``max_steps`` = C transitions that moves along.

    When the window is full, its oldest ``forget`` = R transitions leave and the C - R others are read afresh, so each
    decision rests on the latest C - R .. C - 1 transitions, exactly as in training on windows of C. R = 1 is the
    window that moves with every step; R = the length of an episode, where all have the same, begins each episode with
    whole ones. Where episodes end early a window may begin inside of one, as windows in training then do. It costs
    (C - R) / R tokens a step. Tasks of a batch take their steps together, so under ``vmap`` nothing is read in vain.
    """

    forget: int = setting(1, low=1, high="max_steps", static=True, help="R, transitions that leave a full window")

    def update(self, state: WindowState, transition: Transition) -> WindowState:
        after = self.appended(state, transition)
        # no ``cond``, which would copy the memory at every step
        return jax.lax.while_loop(lambda state: state.fill == self.max_steps, self._forget_oldest, after)

    def _forget_oldest(self, state: WindowState) -> WindowState:
        kept = self.max_steps - self.forget
        window = jax.tree.map(lambda rows: jnp.roll(rows, -self.forget, axis=0), state.window)
        empty = self.reader.init(jax.random.key(0))
        return WindowState(
            window, jnp.int32(kept), self.reader.read(empty, jax.tree.map(lambda rows: rows[:kept], window))
        )
