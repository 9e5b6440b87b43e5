import jax.numpy as jnp

from icrl.agents.ucb import UCB
from icrl.core import struct
from icrl.core.registry import agents


@agents.register("sticky", paper="-")
@struct.dataclass
class Sticky(UCB):
    def act(self, key, state, obs):
        return jnp.argmax(state.mean + 100 * (state.count == 0)).astype(jnp.int32)
