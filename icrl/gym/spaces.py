"""Any gymnasium environment as agents see ours: its spaces as an ``EnvSpec``, its observations as float32 [*O].

``Discrete`` and ``MultiDiscrete`` observations are numbered states, ``Box`` ones numbers; actions are ``Discrete``, or
a ``Box`` of vectors with finite bounds.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from icrl.core.boxes import Box as ActionBox
from icrl.core.errors import InputError, require, require_int
from icrl.core.types import Environment, EnvSpec
from icrl.gym.arrays import checked_finite

MAX_STEPS = 2**24
LARGEST = float(np.finfo(np.float32).max)  # a bound for what has none


class Spaces(NamedTuple):
    """Where observations and actions of an environment begin to count, and the shape in which it shows them."""

    obs_shape: tuple[int, ...]  # () for one number
    obs_start: Any = 0  # of numbered ones, [*O] or 0
    action_start: int = 0

    def read(self, field: str, obs: Any, batch: tuple[int, ...], spec: EnvSpec) -> Any:
        """``obs`` [*batch, *obs_shape] as float32 [*batch, *O] counted from 0; ``InputError`` for what it cannot be."""
        array = checked_finite(field, obs, (*batch, *self.obs_shape)) - np.float32(self.obs_start)
        array = array.reshape((*batch, *spec.obs_shape))
        if spec.obs_nvec:
            count = np.reshape(spec.obs_nvec, spec.obs_shape)
            bad = (array < 0) | (array >= count) | (array != np.floor(array))
            if bad.any():
                found, allowed = array[bad][0], f"numbered states, integers below {spec.obs_nvec} in {spec.name}"
                require(False, field, found.item(), allowed, "counted from 0")
        return array


def plain_spaces(spec: EnvSpec) -> Spaces:
    """Of an environment that shows what ``spec`` says."""
    return Spaces(spec.obs_shape)


@dataclasses.dataclass(frozen=True)
class HostEnvironment(Environment[Any]):
    """The facts of an environment that is stepped on the host, for ``Agent.for_env``; nothing of it can be traced."""

    known: EnvSpec

    @property
    def spec(self) -> EnvSpec:
        return self.known

    def _refuse(self, *_: Any) -> Any:
        raise InputError(f"environment {self.known.name}: needs to be one of icrl's: this one is stepped on the host")

    sample_task: Any = _refuse
    reset_env: Any = _refuse
    step_env: Any = _refuse
    is_truncated: Any = _refuse
    optimal_action: Any = _refuse
    regret: Any = _refuse
    optimal_return: Any = _refuse


def described(env: Any, horizon: int | None = None) -> tuple[Environment, Spaces]:
    """What agents may know of ``env``, and how to read it.

    Args:
      env: one of our environments, or a gymnasium environment or vector of them.
      horizon: steps of an episode at most, of a gymnasium environment whose ``spec`` tells no limit.

    Raises:
      InputError: spaces that no agent reads, or an environment without a time limit.
    """
    if isinstance(env, Environment):
        require(horizon is None, "horizon", horizon, "None: an environment of ours has it among its settings")
        return env, plain_spaces(env.spec)
    is_vector = isinstance(env, gymnasium.vector.VectorEnv)
    known = "a gymnasium environment, one of icrl or a registered name"
    require(is_vector or isinstance(env, gymnasium.Env), "env", env, known)
    space, actions = (
        (env.single_observation_space, env.single_action_space)
        if is_vector
        else (env.observation_space, env.action_space)
    )
    family = getattr(env.unwrapped, "family", None)
    if isinstance(family, Environment) and horizon is None and _shows(family.spec, space, actions):
        return family, plain_spaces(family.spec)
    spec, spaces = _spec_of(_name_of(env), space, actions, _horizon_of(env, horizon))
    return HostEnvironment(spec), spaces


def fitting_spaces(spec: EnvSpec, env: Any) -> Spaces:
    """How an agent made for ``spec`` reads ``env``, one of those of ``described``.

    Raises:
      InputError: its observations or actions are not those that the agent knows.
    """
    other, spaces = described(env, None if isinstance(env, Environment) else spec.max_steps_in_episode)
    theirs = other.spec
    for field in ("num_actions", "action_box", "obs_shape"):
        _require_equal(field, getattr(theirs, field), getattr(spec, field), theirs, spec)
    if theirs.obs_nvec:  # where it shows real numbers, each is checked as it comes
        _require_equal("obs_nvec", theirs.obs_nvec, spec.obs_nvec or "real numbers", theirs, spec)
    return spaces


def _require_equal(field: str, found: Any, known: Any, theirs: EnvSpec, ours: EnvSpec) -> None:
    if found != known:
        raise InputError(
            f"env: {field} of {theirs.name} is {found}, the agent learned in {ours.name}, where it is {known}"
        )


def _spec_of(name: str, space: Any, actions: Any, horizon: int) -> tuple[EnvSpec, Spaces]:
    box = _box_of(name, actions) if isinstance(actions, Box) else None
    require(box is not None or isinstance(actions, Discrete), f"action space of {name}", actions, "Discrete, or Box")
    count, first = (0, 0) if box else (int(actions.n), int(actions.start))
    if isinstance(space, Box):
        low, high = float(space.low.min(initial=0.0)), float(space.high.max(initial=0.0))
        low, high = (low, high) if math.isfinite(low) and math.isfinite(high) else (-LARGEST, LARGEST)
        shape = space.shape or (1,)
        spec = EnvSpec(name, count, shape, low, high, horizon, ends_early=True, action_box=box)
        return spec, Spaces(space.shape, 0, first)
    hint = "gymnasium.wrappers.FlattenObservation makes it a Box"
    numbered = isinstance(space, (Discrete, MultiDiscrete))
    require(numbered, f"observation space of {name}", space, "Discrete, MultiDiscrete or Box", hint)
    nvec, start = (
        ((int(space.n),), int(space.start))
        if isinstance(space, Discrete)
        else (space.nvec.ravel().tolist(), space.start)
    )
    spec = EnvSpec(
        name, count, space.shape or (1,), 0.0, float(max(nvec) - 1), horizon, tuple(nvec),
        is_stationary_bandit=math.prod(nvec) == 1, ends_early=True, action_box=box,
    )  # fmt: skip
    return spec, Spaces(space.shape, start, first)


def _shows(spec: EnvSpec, space: Any, actions: Any) -> bool:
    """Whether nothing is wrapped around an environment of ours that changes what it shows."""
    same = isinstance(space, Box) and space.shape == spec.obs_shape and space.dtype == np.float32
    return same and actions == action_space_of(spec)


def action_space_of(spec: EnvSpec) -> Any:
    """The gymnasium space of the actions."""
    if box := spec.action_box:
        return Box(np.array(box.low, np.float32), np.array(box.high, np.float32), dtype=np.float32)
    return Discrete(spec.num_actions)


def _box_of(name: str, actions: Box) -> ActionBox:
    """A space of vectors with finite bounds as a box of ours."""
    is_real = np.issubdtype(actions.dtype, np.floating)
    fits = len(actions.shape) == 1 and is_real and actions.is_bounded("both")
    hint = "gymnasium.wrappers.RescaleAction or FlattenAction may make it one"
    require(fits, f"action space of {name}", actions, "a Box of float vectors with finite bounds", hint)
    return ActionBox(tuple(map(float, actions.low)), tuple(map(float, actions.high)))


def _horizon_of(env: Any, given: int | None) -> int:
    limit = given if given is not None else getattr(env.spec, "max_episode_steps", None)
    hint = f"the spec of {_name_of(env)} tells no time limit: horizon=200, say"
    require(limit is not None, "horizon", limit, "steps that an episode has at most", hint)
    return require_int("horizon", limit, 1, MAX_STEPS)


def _name_of(env: Any) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
