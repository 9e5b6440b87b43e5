"""Parallel streams of one task, so that one learner acts in many copies of its environment at once."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.types import Array, Environment, EnvSpec, EnvState


@dataclasses.dataclass(frozen=True)
class Streams(Environment[Any]):
    """``num_streams`` = S copies of ``inner`` that share a task and nothing else; wherever ``inner`` has a number, [S].

    The learner sees observations [S, *O], plays actions [S] and gets rewards [S]; its history is [T, S, ...]: one
    stream for each copy, all shaped by the one policy (the data of Son et al. 2025 and Chen et al. 2025). S
    independent learners are S rollouts in ``inner`` instead. Copies restart each on its own.
    """

    inner: Environment
    num_streams: int = setting(1, low=1, high=2**20, help="S, copies")

    @property
    def spec(self) -> EnvSpec:
        """That of ``inner`` with the observations of all copies; it numbers no states."""
        spec = self.inner.spec
        return dataclasses.replace(spec, obs_shape=(self.num_streams, *spec.obs_shape), obs_nvec=())

    def sample_task(self, key: Array) -> Any:
        return self.inner.sample_task(key)

    def validate_task(self, params: Any) -> None:
        self.inner.validate_task(params)

    def reset_env(self, key: Array, params: Any) -> tuple[Array, EnvState]:
        return jax.vmap(self.inner.reset_env, in_axes=(0, None))(jax.random.split(key, self.num_streams), params)

    def step_env(
        self, key: Array, state: EnvState, action: Array, params: Any
    ) -> tuple[Array, EnvState, Array, Array, dict[str, Array]]:
        keys = jax.random.split(key, self.num_streams)
        return jax.vmap(self.inner.step_env, in_axes=(0, 0, 0, None))(keys, state, action, params)

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Array, state: EnvState, action: Array, params: Any = None
    ) -> tuple[Array, EnvState, Array, Array, Array, dict[str, Array]]:
        """One step of every copy, those that ended begin again: everything [S, ...]."""
        params = self.default_params if params is None else params
        keys = jax.random.split(key, self.num_streams)
        return jax.vmap(self.inner.step, in_axes=(0, 0, 0, None))(keys, state, action, params)

    def is_truncated(self, state: EnvState, params: Any) -> Array:
        return jax.vmap(self.inner.is_truncated, in_axes=(0, None))(state, params)

    def optimal_action(self, params: Any, state: EnvState) -> Array:
        return jax.vmap(self.inner.optimal_action, in_axes=(None, 0))(params, state)

    def regret(self, params: Any, state: EnvState, action: Array) -> Array:
        return jax.vmap(self.inner.regret, in_axes=(None, 0, 0))(params, state, action)

    def optimal_return(self, params: Any) -> Array:
        """Of one copy's episode, as its regret is: [S], all alike."""
        return jnp.full(self.num_streams, self.inner.optimal_return(params))
