"""Agents around a plain gymnasium loop, with any environment whose spaces fit.

The functional agent stays as it is; ``HostAgent`` keeps its memory between calls, checks what comes from the host and
makes one compiled call for each ``act`` and each ``observe``. N is the number of sub-environments of a vector
environment; with a single environment the axis [N] is absent everywhere.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode

from icrl.core.errors import InputError, require, require_int
from icrl.core.precision import exact_products, in_32_bits
from icrl.core.seeding import MAX_SEED, key_for, keys_for
from icrl.core.types import Agent, AgentState, Array, EnvSpec, Transition
from icrl.gym.arrays import checked_actions, checked_array, checked_finite
from icrl.gym.spaces import Spaces, fitting_spaces, plain_spaces

MAX_ENVS = 2**20


class Memory(NamedTuple):
    """All that an agent carries from one call to the next; ``predict`` takes it and gives it back."""

    agent_state: AgentState  # leaves [N, ...]
    key: Array  # [N] typed key of the agent's draws
    num_acts: int  # choices made so far; the next one draws from fold_in(key, num_acts)


class HostAgent:
    """One agent in one gymnasium loop: ``reset`` begins a new task, ``act`` chooses, ``observe`` learns.

    The end of an episode is not the end of a task: the memory stays until the next ``reset``.
    """

    def __init__(self, agent: Agent, spec: EnvSpec, spaces: Spaces | None = None):
        require(isinstance(agent, Agent), "agent", type(agent).__name__, "an icrl.core.types.Agent")
        hint = "it reads the environment's hidden state: measure it with interact"
        require(not agent.sees_env_state, "agent", type(agent).__name__, "an agent that acts on observations", hint)
        self.agent = agent
        self.spec = spec
        self.spaces = plain_spaces(spec) if spaces is None else spaces
        self.max_steps: int | None = agent.capacity  # the most transitions its memory can hold
        self.num_envs: int | None = None
        self._memory: Memory | None = None
        self._num_observed = 0
        self._skips_restarts = False
        self._ended: Any = np.zeros((), bool)

    def reset(
        self, seed: int = 0, num_envs: int | None = None, autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP
    ) -> None:
        """Begin a new task and forget everything.

        Args:
          seed: seed of the agent's own draws; sub-environment i of a vector has its own stream, and a single
            environment has the stream of sub-environment 0.
          num_envs: N for a vector environment, None for a single one. Each sub-environment has a memory of its own.
          autoreset_mode: ``env.metadata["autoreset_mode"]`` of a vector environment. In mode ``NEXT_STEP`` the step
            after an episode's end only restarts it, so ``observe`` learns nothing from that step.
        """
        key = key_for(require_int("seed", seed, 0, MAX_SEED), "host-agent")
        if num_envs is not None:
            num_envs = require_int("num_envs", num_envs, 1, MAX_ENVS)
        allowed = "a gymnasium.vector.AutoresetMode"
        require(isinstance(autoreset_mode, AutoresetMode), "autoreset_mode", autoreset_mode, allowed)
        self.num_envs = num_envs
        keys = keys_for(key, jnp.arange(num_envs or 1, dtype=jnp.uint32))
        agent_state, key_acts = _init(self.agent, keys if self._batched else keys[0], batched=self._batched)
        self._memory = Memory(agent_state, key_acts, num_acts=0)
        self._num_observed = 0
        self._skips_restarts = self._batched and autoreset_mode is AutoresetMode.NEXT_STEP
        self._ended = np.zeros(self._batch, bool)

    def put_on(self, env: Any) -> Self:
        """Read and act as ``env``, a gymnasium environment or one of ours, shows and takes it; the memory stays.

        Raises:
          InputError: its observations or actions are not those that the agent knows.
        """
        self.spaces = fitting_spaces(self.spec, env)
        return self

    def act(self, obs: Any, deterministic: bool = False) -> Any:
        """Choose at ``obs`` [N, *O]: an int, or int32 [N] for a vector; ``deterministic`` only exploits.

        In a box of actions: float32 [A], or [N, A].

        Observations and actions have the form of the environment that the agent was made for or put on.
        """
        actions, self._memory = self._choose(obs, self._current_memory(), deterministic)
        return actions if self._batched or self.spec.action_box else int(actions)

    def observe(
        self,
        obs: Any,
        action: Any,
        reward: Any,
        next_obs: Any,
        terminated: Any,
        truncated: Any,
        infos: Mapping[str, Any] | None = None,
    ) -> None:
        """Learn from one step of each sub-environment.

        Args:
          obs: [N, *O], what the action was chosen at.
          action: [N] integers in 0..K-1, whoever chose them, or [N, A] finite numbers.
          reward: [N] finite numbers.
          next_obs: [N, *O], what ``step`` returned.
          terminated: [N] bool.
          truncated: [N] bool.
          infos: what ``step`` of a vector environment returned. Where an episode ended, ``next_obs`` of a SAME_STEP
            environment already belongs to the next episode and the true one is taken from ``infos["final_obs"]``;
            without ``infos`` the given ``next_obs`` is taken for true.
        """
        memory = self._current_memory()
        full = self.max_steps is not None and self._num_observed >= self.max_steps
        hint = "the agent's context is full: call reset() to begin a new task"
        require(not full, "observed steps", self._num_observed + 1, f"at most {self.max_steps}", hint)
        next_obs = self._checked_obs("next_obs", next_obs)  # a copy: the caller's array is never written to
        if self._batched and infos is not None and "final_obs" in infos:
            next_obs = self._with_final_obs(next_obs, infos)
        transition = Transition(
            obs=self._checked_obs("obs", obs),
            action=checked_actions("action", action, self._batch, self.spec, self.spaces.action_start),
            reward=checked_finite("reward", reward, self._batch),
            next_obs=next_obs,
            terminated=checked_array("terminated", terminated, "b", self._batch),
            truncated=checked_array("truncated", truncated, "b", self._batch),
        )
        is_real = ~self._ended if self._skips_restarts else None
        learned = _update(self.agent, memory.agent_state, transition, is_real, batched=self._batched)
        self._memory = memory._replace(agent_state=learned)
        self._ended = transition.terminated | transition.truncated
        if is_real is not None:  # a restart cannot end an episode, whatever the flags of that step say
            self._ended = self._ended & is_real
        self._num_observed += 1

    def predict(
        self, obs: Any, state: Memory | None = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Memory]:
        """Choose at ``obs`` [N, *O] in the form of stable-baselines3, and return (action, state).

        That form passes no rewards, so ``predict`` never learns: it chooses from the memory in ``state``, or from
        what ``observe`` has taught the agent so far when ``state`` is None. The returned state holds the same
        knowledge and the position in the stream of draws; passing it on repeats nothing. With ``state`` given, the
        call changes nothing in this object. ``episode_start`` is ignored: the memory outlives episodes.
        """
        del episode_start
        if state is None:
            actions, self._memory = self._choose(obs, self._current_memory(), deterministic)
            return actions, self._memory
        self._current_memory()  # whether a single or a vector environment is meant is known only after reset()
        fits = isinstance(state, Memory) and state.key.shape == self._batch
        found = state.key.shape if isinstance(state, Memory) else type(state).__name__
        require(fits, "state", found, f"None, or a state returned by predict, with keys of shape {self._batch}")
        return self._choose(obs, state, deterministic)

    @property
    def _batched(self) -> bool:
        return self.num_envs is not None

    @property
    def _batch(self) -> tuple[int, ...]:
        return () if self.num_envs is None else (self.num_envs,)

    def _current_memory(self) -> Memory:
        if self._memory is None:
            raise InputError("the agent has no task yet: call reset() first, with num_envs=N for a vector environment")
        return self._memory

    def _choose(self, obs: Any, memory: Memory, deterministic: bool) -> tuple[Any, Memory]:
        obs = self._checked_obs("obs", obs)
        clock = np.uint32(memory.num_acts)
        actions = _act(self.agent, clock, memory.key, memory.agent_state, obs, bool(deterministic), self._batched)
        actions = np.array(actions)
        if np.any(np.isnan(actions) if self.spec.action_box else actions < 0):
            raise InputError(
                "observed rewards or observations: got values so large that the agent's memory is no longer finite, "
                "allowed: the range it was trained on; call reset() to begin a new task"
            )
        if self.spec.action_box is None:  # [()] turns a 0-d array into a NumPy scalar, which can be hashed
            actions = np.array(actions + self.spaces.action_start, np.int32)[()]
        return actions, memory._replace(num_acts=memory.num_acts + 1)

    def _checked_obs(self, field: str, obs: Any) -> Any:
        return self.spaces.read(field, obs, self._batch, self.spec)

    def _with_final_obs(self, next_obs: np.ndarray, infos: Mapping[str, Any]) -> Any:
        """``next_obs`` with the rows of ended episodes taken from ``infos["final_obs"]``, dense or an object array."""
        mask = checked_array("infos['_final_obs']", infos.get("_final_obs"), "b", self._batch)
        if not mask.any():
            return next_obs
        rows = [infos["final_obs"][i] for i in np.flatnonzero(mask)]
        next_obs[mask] = self.spaces.read("infos['final_obs']", rows, (int(mask.sum()),), self.spec)
        return next_obs


@partial(jax.jit, static_argnames=("batched",))
def _init(agent: Agent, keys: Array, batched: bool) -> tuple[AgentState, Array]:
    begin = partial(_init_one, agent)
    return (jax.vmap(begin) if batched else begin)(keys)


@in_32_bits
def _init_one(agent: Agent, key: Array) -> tuple[AgentState, Array]:
    key_init, key_acts = jax.random.split(key)
    return agent.init(key_init), key_acts


@partial(jax.jit, static_argnames=("greedy", "batched"))
def _act(agent: Agent, clock: Array, keys: Array, states: AgentState, obs: Array, greedy: bool, batched: bool) -> Array:
    choose = partial(_act_one, agent, greedy, clock)
    return (jax.vmap(choose) if batched else choose)(keys, states, obs)


@in_32_bits
@exact_products
def _act_one(agent: Agent, greedy: bool, clock: Array, key: Array, state: AgentState, obs: Array) -> Array:
    choose = agent.act_greedy if greedy else agent.act
    return choose(jax.random.fold_in(key, clock), state, obs)


@partial(jax.jit, static_argnames=("batched",))
def _update(
    agent: Agent, states: AgentState, transitions: Transition, is_real: Array | None, batched: bool
) -> AgentState:
    learn = partial(_update_one, agent)
    return (jax.vmap(learn) if batched else learn)(states, transitions, is_real)


@in_32_bits
@exact_products
def _update_one(agent: Agent, state: AgentState, transition: Transition, is_real: Array | None) -> AgentState:
    learned = agent.update(state, transition)
    return learned if is_real is None else jax.tree.map(partial(jnp.where, is_real), learned, state)
