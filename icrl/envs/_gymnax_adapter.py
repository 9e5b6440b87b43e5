"""Any gymnax 1.x environment whose actions are numbered or a box of vectors as one of ours (Lange 2022, gymnax).

``env = GymnaxEnvironment.make("CartPole-v1")`` then goes wherever an ``Environment`` goes: ``interact``, histories,
training. It stands in no registry, because a gymnax environment has no task prior of its own and no known optimum.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.boxes import Box
from icrl.core.errors import InputError, near_names, require
from icrl.core.precision import in_32_bits
from icrl.core.types import Array, EnvSpec, EnvState, TaskParams
from icrl.envs._unknown_optimum import UnknownOptimum


@struct.dataclass
class GymnaxTask(TaskParams):
    """The environment's own parameters; ``max_steps_in_episode`` repeats theirs and does not change it."""

    inner: Any = None  # gymnax's EnvParams, every leaf an array


@dataclasses.dataclass(frozen=True)
class GymnaxEnvironment(UnknownOptimum[GymnaxTask]):
    """A gymnax environment behind our bases.

    Every task is the default one unless ``task_sampler`` draws others. Observations are cast to float32. Regret and
    optimal return are NaN, since nobody knows the optimum, so ``interact`` runs and its regret curve says so;
    asking for an optimal action raises.
    """

    inner: Any  # the gymnax environment; compared and hashed by identity
    task_sampler: Callable[[Array], Any] | None = None  # typed key -> gymnax EnvParams, traceable

    @classmethod
    def make(
        cls, env_id: str, task_sampler: Callable[[Array], Any] | None = None, **settings: Any
    ) -> "GymnaxEnvironment":
        """Build gymnax's ``env_id``; ``settings`` go to its constructor."""
        import gymnax

        if env_id not in gymnax.registered_envs:
            raise InputError(
                f"unknown gymnax environment {env_id!r}; {near_names(str(env_id), gymnax.registered_envs)}"
            )
        env = cls(gymnax.make(env_id, **settings)[0], task_sampler)
        _ = env.spec  # refuse spaces that do not fit before anything is compiled
        return env

    @property
    def spec(self) -> EnvSpec:
        from gymnax.environments import spaces

        with jax.ensure_compile_time_eval():  # bounds are jax arrays, and an agent may ask for them inside ``jit``
            params = self.inner.default_params
            actions, observations = self.inner.action_space(params), self.inner.observation_space(params)
        is_vector = isinstance(actions, spaces.Box) and len(actions.shape) == 1
        fits = is_vector or isinstance(actions, spaces.Discrete)
        require(fits, f"{self.inner.name} actions", actions, "a Discrete space or a Box of vectors")
        box = _box_of(actions) if is_vector else None
        numeric = isinstance(observations, (spaces.Box, spaces.Discrete))
        require(numeric, f"{self.inner.name} observations", observations, "a Box or Discrete space")
        is_box = isinstance(observations, spaces.Box)
        low, high = (observations.low, observations.high) if is_box else (0, observations.n - 1)
        low, high = float(np.asarray(low).min()), float(np.asarray(high).max())
        shape = tuple(int(length) for length in observations.shape)
        steps = int(params.max_steps_in_episode)
        return EnvSpec(
            self.inner.name, 0 if box else int(actions.n), shape, low, high, steps,
            ends_early=True, action_box=box, knows_optimum=False,
        )  # fmt: skip

    @in_32_bits
    def sample_task(self, key: Array) -> GymnaxTask:
        default = self.inner.default_params
        params = default if self.task_sampler is None else self.task_sampler(key)
        horizon = int(default.max_steps_in_episode)  # static; the one in force is the leaf of the same name
        return GymnaxTask(max_steps_in_episode=horizon, inner=jax.tree.map(jnp.asarray, params))

    def validate_task(self, params: GymnaxTask) -> None:
        require(type(params) is GymnaxTask, "task", type(params).__name__, "GymnaxTask")
        wanted = jax.eval_shape(self.sample_task, jax.random.key(0)).inner
        require(type(params.inner) is type(wanted), "task.inner", type(params.inner).__name__, type(wanted).__name__)
        for field in dataclasses.fields(wanted):
            found, like = np.asarray(getattr(params.inner, field.name)), getattr(wanted, field.name)
            if hasattr(like, "shape"):
                require(found.shape == like.shape, f"task.{field.name}", found.shape, f"shape {like.shape}")
                require(bool(np.isfinite(found).all()), f"task.{field.name}", found.tolist(), "finite numbers")

    @in_32_bits
    def reset_env(self, key: Array, params: GymnaxTask) -> tuple[Array, EnvState]:
        obs, state = self.inner.reset_env(key, params.inner)
        return jnp.asarray(obs, jnp.float32), jax.tree.map(jnp.asarray, state)  # gymnax begins with Python's numbers

    @in_32_bits
    def step_env(
        self, key: Array, state: EnvState, action: Array, params: GymnaxTask
    ) -> tuple[Array, EnvState, Array, Array, dict[str, Array]]:
        action = action if self.spec.action_box is None else self.spec.action_box.clip(action)
        obs, state, reward, terminated, info = self.inner.step_env(key, state, action, params.inner)
        return jnp.asarray(obs, jnp.float32), state, jnp.asarray(reward, jnp.float32), jnp.bool_(terminated), info

    def is_truncated(self, state: EnvState, params: GymnaxTask) -> Array:
        return jnp.bool_(self.inner.is_truncated(state, params.inner))


def _box_of(actions: Any) -> Box:
    """A gymnax box of vectors as one of ours."""
    low, high = (np.broadcast_to(np.asarray(bound, float), actions.shape) for bound in (actions.low, actions.high))
    return Box(tuple(map(float, low)), tuple(map(float, high)))
