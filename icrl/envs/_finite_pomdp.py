"""What all finite POMDPs share: hidden states, observations that are numbers, known tables, episodes of H steps.

Tasks are finitely many and numbered. The tables of all of them together are a constant of the environment
(``icrl.planning.pomdp.Tables``), so a task is its number and beliefs can be exact over task and state jointly.
"""

import abc
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import require, require_int
from icrl.core.fields import setting
from icrl.core.threefry import split
from icrl.core.types import Array, Environment, EnvSpec, TaskParams
from icrl.envs._tabular import draw
from icrl.planning.pomdp import Tables, mdp_values

MAX_HORIZON = 4096  # the table of values has a layer for each step
MAX_VALUES = 2**24  # H x S x K of it


@struct.dataclass
class POMDPTask(TaskParams):
    """Which of the N tasks it is."""

    number: Array = struct.field(default_factory=lambda: jnp.zeros(1, jnp.int32))  # [1] int32 in 0 .. N - 1


@struct.dataclass
class POMDPState:
    """Where and when the agent is; neither is seen."""

    position: Array  # [] int32 in 0 .. S - 1, numbers of the states of all tasks
    time: Array  # [] int32, steps of this episode


@dataclasses.dataclass(frozen=True)
class FinitePOMDP(Environment[POMDPTask]):
    """A task is one of N known POMDPs; the observation is a tuple of whole numbers, of which no policy knows the state.

    Rewards are those of the transition, without noise. Episodes last H steps (``truncated``) unless a state ends them
    (``terminated``). A trial is many episodes of one task.

    The oracles read the hidden state: ``optimal_action``, ``regret`` and ``optimal_return`` are those of an omniscient
    player, whom no agent can match who must find out what it hides. They bound what can be earned from above. The line
    to reach is the belief-optimal agent's (``EnvSpec.exact_policy``); all of it is undiscounted.
    """

    @property
    @abc.abstractmethod
    def horizon(self) -> int:
        """H, steps in an episode: a setting, ``steps(default)``, or what follows from others."""

    @abc.abstractmethod
    def tables(self) -> Tables:
        """The POMDP, made from the settings alone; called once."""

    @property
    def obs_nvec(self) -> tuple[int, ...]:
        """How many values each number of an observation has; an observation's own number is row-major."""
        return (self.pomdp.num_obs,)

    @property
    def pomdp(self) -> Tables:
        return _tables(self)

    @property
    def num_tasks(self) -> int:
        """N."""
        return self.pomdp.num_tasks

    @property
    def spec(self) -> EnvSpec:
        nvec = self.obs_nvec
        return EnvSpec(
            type(self).__name__,
            self.pomdp.num_actions,
            (len(nvec),),
            0.0,
            max(nvec) - 1.0,
            self.horizon,
            nvec,
            exact_sampler="belief-sampling",
            exact_policy="belief-optimal",
            ends_early=bool(self.pomdp.ends.any()),
            observes_state=False,
        )

    def task(self, index: Array) -> POMDPTask:
        """The task with number ``index`` [] int32 in 0 .. N - 1."""
        return POMDPTask(number=jnp.asarray(index, jnp.int32).reshape(1), max_steps_in_episode=self.horizon)

    def sample_task(self, key: Array) -> POMDPTask:
        """Draw uniformly from all tasks."""
        return self.task(jax.random.randint(key, (), 0, self.num_tasks, jnp.int32))

    def reset_env(self, key: Array, params: POMDPTask) -> tuple[Array, POMDPState]:
        tables, number = _narrow(self), params.number[0]
        key_state, key_obs = split(key)
        which = draw(key_state, jnp.asarray(tables.start_prob)[number])
        position = jnp.asarray(tables.starts)[number, which]
        shown = draw(key_obs, jnp.asarray(tables.first_prob)[position])
        obs = jnp.asarray(tables.first_obs)[position, shown]
        return self.vector(obs), POMDPState(position=position, time=jnp.int32(0))

    def step_env(
        self, key: Array, state: POMDPState, action: Array, params: POMDPTask
    ) -> tuple[Array, POMDPState, Array, Array, dict[str, Array]]:
        del params
        tables, pair = _narrow(self), (action, state.position)
        key_next, key_obs = split(key)
        which = draw(key_next, jnp.asarray(tables.prob)[pair])
        position = jnp.asarray(tables.next)[(*pair, which)]
        reward = jnp.asarray(tables.reward)[(*pair, which)]
        shown = draw(key_obs, jnp.asarray(tables.obs_prob)[action, position])
        obs = jnp.asarray(tables.obs)[action, position, shown]
        ended = jnp.asarray(tables.ends)[position]
        return self.vector(obs), POMDPState(position=position, time=state.time + 1), reward, ended, {}

    def vector(self, number: Array) -> Array:
        """The observation with a number [] int32, [len(obs_nvec)] float32."""
        parts = []
        for count in reversed(self.obs_nvec):
            number, part = jnp.divmod(number, count)
            parts.append(part)
        return jnp.stack(parts[::-1]).astype(jnp.float32)

    def is_truncated(self, state: POMDPState, params: POMDPTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: POMDPTask, state: POMDPState) -> Array:
        """Of the actions with the largest Q* of one who sees the state, the first, [] int32."""
        del params
        return jnp.argmax(self._q(state)).astype(jnp.int32)

    def regret(self, params: POMDPTask, state: POMDPState, action: Array) -> Array:
        """V*(state) - Q*(state, action) of one who sees the state, [] float32 >= 0."""
        del params
        q = self._q(state)
        return jnp.max(q) - q[action]

    def optimal_return(self, params: POMDPTask) -> Array:
        """What one who sees the state earns in an episode, [] float32."""
        tables, number = _narrow(self), params.number[0]
        value = jnp.asarray(_values(self)[0].max(-1))[jnp.asarray(tables.starts)[number]]
        return jnp.sum(value * jnp.asarray(tables.start_prob)[number])

    def _q(self, state: POMDPState) -> Array:
        """Q* [K] float32 of one who sees the state; after the last step that of the last."""
        return jnp.asarray(_values(self))[jnp.minimum(state.time, self.horizon - 1), state.position]

    def validate_task(self, params: POMDPTask) -> None:
        require(type(params) is POMDPTask, "task", type(params).__name__, "POMDPTask")
        require_int("task.max_steps_in_episode", params.max_steps_in_episode, self.horizon, self.horizon)
        found = np.asarray(params.number)
        require(found.shape == (1,), "task.number", found.shape, "shape (1,)")
        require(np.issubdtype(found.dtype, np.integer), "task.number", str(found.dtype), "an integer dtype")
        require_int("task.number", int(found[0]), 0, self.num_tasks - 1)


def steps(default: int) -> Any:
    """The setting ``horizon``."""
    return setting(default, low=1, high=MAX_HORIZON, help="H, steps in an episode")


@functools.lru_cache(maxsize=64)
def _tables(env: FinitePOMDP) -> Tables:
    made = env.tables()
    size = env.horizon * made.num_states * made.num_actions
    require(
        size <= MAX_VALUES, "horizon", env.horizon, f"H x S x K of at most {MAX_VALUES:,}, S being {made.num_states}"
    )
    return made


@functools.lru_cache(maxsize=64)
def _narrow(env: FinitePOMDP) -> Tables:
    """The tables in 32 bits, as rewards are paid."""
    return env.pomdp.in_32_bits()


@functools.lru_cache(maxsize=64)
def _values(env: FinitePOMDP) -> np.ndarray:
    """Q* [H, S, K] float32 of one who sees the state."""
    return mdp_values(env.pomdp, env.horizon)
