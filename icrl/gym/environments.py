"""Our environments for gymnasium users, NumPy in and out, one compiled call a step; ``vectors.py`` has many in one.

An environment keeps its task over ``reset()``: an in-context learner lives through many episodes of one task. A new
task comes with ``reset(seed=s)`` or ``reset(options={"new_task": True})``, a given one with
``reset(options={"task": params})``.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec as GymSpec
from gymnasium.error import ResetNeeded

from icrl.core.errors import require, require_int
from icrl.core.forks import refuse_after_fork
from icrl.core.registry import agents, environments
from icrl.core.seeding import MAX_SEED, key_for
from icrl.core.types import Environment, TaskParams
from icrl.gym.agents import HostAgent
from icrl.gym.arrays import checked_actions
from icrl.gym.inputs import checked_options, checked_oracle, checked_settings, checked_task
from icrl.gym.render.frame import RENDER_FPS, RENDER_MODES, Camera
from icrl.gym.rollout import (
    Life,
    begin,
    draw,
    draw_next,
    info_of,
    step,
)
from icrl.gym.spaces import action_space_of, described

__all__ = ["HostAgent", "IcrlEnv", "build_environment", "make_agent", "make_env"]


class IcrlEnv(gymnasium.Env[np.ndarray, Any]):
    """One environment and one task at a time; observations float32 [*O], actions 0..K-1, no auto-reset.

    Where actions are a box they are float32 [A]; what is outside is clipped, what is not finite refused.

    With ``oracle=True`` every ``info`` holds, under "oracle", what no agent may know: the ``regret`` of the action
    just taken (0 after ``reset``), an ``optimal_action`` at the observation just returned, and the task's
    ``optimal_return`` over one episode.

    With ``render_mode`` "rgb_array" ``render`` returns a picture [384, 320, 3] uint8, with "ansi" lines of text. Both
    show the episode in play and the truth about the task.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": RENDER_FPS}  # type: ignore[misc]

    def __init__(
        self,
        env_id: str = "GaussianBandit-v0",
        oracle: bool = False,
        render_mode: str | None = None,
        **env_settings: Any,
    ):
        self.family = build_environment(env_id, env_settings)
        self.oracle = checked_oracle(oracle, self.family)
        self._camera = Camera(self.family, render_mode)
        self.render_mode = render_mode
        self._spec: GymSpec | None = None
        self.observation_space, self.action_space = spaces_of(self.family)
        self._life: Life | None = None
        self._over = True

    @property
    def spec(self) -> GymSpec | None:  # type: ignore[override]
        """What ``gymnasium.make`` made this from; its ``max_episode_steps`` is the length of an episode.

        ``make`` names no limit, so that nothing but the environment itself ends its episodes.
        """
        return self._spec

    @spec.setter
    def spec(self, spec: GymSpec | None) -> None:
        self._spec = with_episode_length(spec, self.family)

    @property
    def task(self) -> TaskParams:
        """The parameters of the task in play, to be set again with ``reset(options={"task": ...})``."""
        return reset_first(self._life).task

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; ``options``: "new_task" (bool) or "task" (the parameters of one task)."""
        wishes = checked_options(options, ("new_task", "task"))
        seed = None if seed is None else require_int("seed", seed, 0, MAX_SEED)
        task = checked_task(self.family, wishes["task"]) if "task" in wishes else None
        super().reset(seed=seed)
        if seed is None and self._life is None:
            seed = int(self.np_random.integers(2**32))
        if seed is not None:
            life = draw(self.family, key_for(0, "gymnasium", np.uint32(seed)))
        elif wishes.get("new_task", False):
            life = draw_next(self.family, reset_first(self._life))
        else:
            life = reset_first(self._life)._replace(state=None)
        life = life if task is None else life._replace(task=task)
        self._life, seen = begin(self.family, self.oracle, life)
        self._over = False
        self._camera.begin(np.asarray(seen.obs)[None], np.ones(1, bool))
        return np.array(seen.obs), info_of(self.family, seen)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one action; after the end of an episode ``reset`` must come first."""
        life = reset_first(self._life)
        if self._over:
            raise ResetNeeded("the episode is over: call reset() to start the next one")
        action = checked_actions("action", action, (), self.family.spec)
        self._life, seen = step(self.family, self.oracle, life, action)
        reward, terminated, truncated, _ = np.asarray(seen.measured).tolist()
        self._over = bool(terminated or truncated)
        self._camera.add(np.asarray(seen.obs)[None], action[None], reward, np.zeros(1, bool))
        return np.array(seen.obs), reward, bool(terminated), bool(truncated), info_of(self.family, seen)

    def render(self) -> Any:
        """The moment now: pixels [H, W, 3] uint8 or a text, as ``render_mode`` asks; None without one."""
        life = reset_first(self._life)
        return self._camera.shoot(0, life.task, life.state)


def build_environment(env_id: str, settings: Mapping[str, Any]) -> Environment:
    """The registered environment ``env_id`` with its ``settings``; an unknown one raises ``InputError``."""
    refuse_after_fork()
    require(isinstance(env_id, str), "env_id", env_id, "the name of a registered environment")
    name, given = environments.resolve(env_id)
    return environments[name](**{**given, **checked_settings(env_id, environments[name], settings)})


def make_env(env_id: str, **settings: Any) -> Environment:
    """The registered environment ``env_id`` (or MODULE:NAME) with these ``settings``, for ``interact`` and recipes.

    It is the functional one, whose ``params`` is the task; ``gymnasium.make(f"icrl/{env_id}")`` is its other side.

    >>> icrl.make_env("RiverSwim-v0", horizon=20).num_actions
    2
    """
    return build_environment(env_id, settings)


def make_agent(
    name: str,
    env_id: str = "GaussianBandit-v0",
    env_settings: Mapping[str, Any] | None = None,
    *,
    env: Any = None,
    horizon: int | None = None,
    **settings: Any,
) -> HostAgent:
    """The registered agent ``name`` (or MODULE:NAME), ready for a gymnasium loop; call its ``reset`` first.

    >>> agent = icrl.make_agent("ucb-vi", env=gymnasium.make("FrozenLake-v1"))

    Args:
      name: see ``icrl list agents``.
      env_id: the family the agent is told about (number of actions, shape of observations, prior, noise).
      env_settings: settings of that family that differ from its defaults.
      env: instead of a family, any gymnasium environment or vector of them, or one of ours. Of those that are not
        ours the agent learns the spaces and the time limit alone; what else it should know are settings of its own.
      horizon: steps that an episode of ``env`` has at most, where its ``spec`` does not tell.
      settings: settings of the agent.

    Raises:
      InputError: an unknown name or setting, or an environment that the agent cannot act in, and why.
    """
    allowed = "a dictionary, or None"
    require(env_settings is None or isinstance(env_settings, Mapping), "env_settings", env_settings, allowed)
    if env is None or isinstance(env, str):
        require(horizon is None, "horizon", horizon, "None: with env_id it is one of env_settings")
        env = build_environment(env_id if env is None else env, env_settings or {})
    else:
        require(env_settings is None, "env_settings", env_settings, "None, as env has its own")
    family, spaces = described(env, horizon)
    require(isinstance(name, str), "agent", name, "the name of a registered agent")
    made = agents[name].for_env(family, **checked_settings(name, agents[name], settings))
    return HostAgent(made, family.spec, spaces)


def spaces_of(env: Environment) -> tuple[gymnasium.spaces.Box, Any]:
    """Of observations and of actions."""
    spec = env.spec
    return gymnasium.spaces.Box(spec.obs_low, spec.obs_high, spec.obs_shape, np.float32), action_space_of(spec)


def with_episode_length(spec: GymSpec | None, env: Environment) -> GymSpec | None:
    """``spec`` with the length of an episode of ``env``."""
    return spec and dataclasses.replace(spec, max_episode_steps=env.spec.max_steps_in_episode)


def reset_first(life: Life | None) -> Life:
    """``life``, unless there is none yet."""
    if life is None:
        raise ResetNeeded("no task yet: call reset() first")
    return life
