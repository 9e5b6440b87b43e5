"""Memory over time: what the first observation showed decides what the last action is worth (Osband et al. 2020).

``memory_len`` and ``memory_size`` of their Behaviour Suite (bsuite), with its timing: a first observation that is seen
twice, L + 1 actions, and a query shown with the observation before the last of them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.scenes import Episode, Graph, rows
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._one_task import OneTask

MOMENTS, ROW = 48, 7  # in a picture: the most moments it shows, and how many of them side by side


@struct.dataclass
class MemoryState:
    """What this episode hides."""

    time: Array  # [] int32, actions done
    context: Array  # [M] int32, 0 or 1
    query: Array  # [] int32, which bit will be asked for


@environments.register("MemoryLen-v0", paper="Osband et al. 2020")
@dataclasses.dataclass(frozen=True)
class MemoryLen(OneTask):
    """Observation [2 + M]: 1 - t / L, the query at t = L - 1, the context as -1 and 1 at t = 0, zeros otherwise.

    t is max(actions done - 1, 0). The last of L + 1 actions earns 1 if it is the bit asked for, else -1; all others
    earn nothing. Context and query are drawn afresh in every episode, so there is one task, and no policy without
    memory earns more than 0 on average. Departure from bsuite: the end counts as a time limit, not as a termination.
    """

    length: int = setting(32, low=1, high=2**20, help="L, steps between context and question")
    num_bits: int = setting(1, low=1, high=4096, help="M, bits; bsuite's memory_len has 1, its memory_size 1 to 40")

    @property
    def spec(self) -> EnvSpec:
        high = float(max(1, self.num_bits - 1))
        shape = (2 + self.num_bits,)
        return EnvSpec(type(self).__name__, 2, shape, -1.0, high, self.length + 1, observes_state=False)

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, MemoryState]:
        del params
        key_context, key_query = jax.random.split(key)
        context = jax.random.bernoulli(key_context, jnp.float32(0.5), (self.num_bits,)).astype(jnp.int32)
        query = jax.random.randint(key_query, (), 0, self.num_bits, jnp.int32)
        state = MemoryState(jnp.int32(0), context, query)
        return self._observe(state), state

    def step_env(
        self, key: Array, state: MemoryState, action: Array, params: TaskParams
    ) -> tuple[Array, MemoryState, Array, Array, dict[str, Array]]:
        del key, params
        right = action == state.context[state.query]
        reward = jnp.where(state.time == self.length, jnp.where(right, jnp.float32(1.0), -1.0), 0.0)
        state = state.replace(time=state.time + 1)  # type: ignore[attr-defined]
        return self._observe(state), state, reward, jnp.bool_(False), {}

    def _observe(self, state: MemoryState) -> Array:
        t = jnp.maximum(state.time - 1, 0)
        query = jnp.where(t == self.length - 1, state.query, 0)
        context = jnp.where(t == 0, 2 * state.context - 1, 0)
        return jnp.concatenate([jnp.stack([(self.length - t) / self.length, query]), context]).astype(jnp.float32)

    def scene(self, params: TaskParams, state: MemoryState, episode: Episode) -> Graph:
        """The moments of the episode as states in rows, long ones as ``MOMENTS`` of them; it begins with the bits."""
        del params
        steps, time = self.length + 1, int(state.time)
        moments = min(steps, MOMENTS) + 1
        now, next_one = (done * (moments - 1) // steps for done in (time, min(time + 1, steps)))
        bits = "".join(map(str, np.asarray(state.context).tolist())) if self.num_bits <= 3 else ""
        labels = (bits, *[""] * (moments - 3), f"?{int(state.query)}", "")
        reach = np.broadcast_to(np.arange(moments) == next_one, (2, moments)).astype(float)
        right = int(state.context[state.query])
        worth = np.where(np.arange(2) == right, 1.0, -1.0) if time == self.length else np.zeros(2)
        return Graph(rows(moments, min(moments, ROW)), np.arange(now + 1), reach, worth, labels)

    def optimal_action(self, params: TaskParams, state: MemoryState) -> Array:
        """The bit asked for, at the last step; before it any action is, and 0 is told, which gives nothing away."""
        del params
        return jnp.where(state.time == self.length, state.context[state.query], 0).astype(jnp.int32)

    def regret(self, params: TaskParams, state: MemoryState, action: Array) -> Array:
        """2 for a wrong last action, 0 otherwise."""
        wrong = action != self.optimal_action(params, state)
        return jnp.where((state.time == self.length) & wrong, jnp.float32(2.0), 0.0)

    def optimal_return(self, params: TaskParams) -> Array:
        del params
        return jnp.float32(1.0)
