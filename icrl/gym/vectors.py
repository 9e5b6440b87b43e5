"""Our environments in vectors for gymnasium users: N sub-environments in one compiled call a step.

Sub-environment i of ``reset(seed=s)`` lives the life of a single environment after ``reset(seed=s + i)``, draw by draw.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.registration import EnvSpec as GymSpec
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from icrl.core.errors import require, require_int
from icrl.core.seeding import MAX_SEED, key_for, keys_for
from icrl.core.types import TaskParams
from icrl.gym.agents import MAX_ENVS
from icrl.gym.arrays import checked_actions, checked_array
from icrl.gym.environments import IcrlEnv, build_environment, reset_first, spaces_of, with_episode_length
from icrl.gym.inputs import checked_options, checked_oracle, checked_tasks
from icrl.gym.render.frame import Camera
from icrl.gym.rollout import (
    Life,
    Seen,
    begin_many,
    choose_many,
    draw_many,
    draw_next_many,
    final_infos_of,
    infos_of,
    restart_or_step_many,
    step_many,
    take_one,
)


class IcrlVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, Any, np.ndarray]):
    """N environments in one compiled call, each with its own task.

    The conventions are those of gymnasium's ``SyncVectorEnv`` in the same ``autoreset_mode``, with the same draws in
    all of them:

    - SAME_STEP, the default: an ended episode restarts within the step. True last observations stand in
      ``infos["final_obs"]`` (an object array, None elsewhere), last infos in ``infos["final_info"]``, masks under the
      same names with an underscore in front. One thing differs: ``infos["oracle"]["regret"]`` is always that of the
      action just taken, also where an episode ended, so its sum over steps is the regret of the life.
    - NEXT_STEP: the step after an episode's end only restarts it, with reward 0, whatever the action. It is the mode
      that gymnasium's own vectors and its stateful vector wrappers (``NormalizeObservation``) have.
    - DISABLED: the user calls ``reset(options={"reset_mask": terminated | truncated})`` before the next step.
    """

    metadata: ClassVar[dict[str, Any]] = {**IcrlEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}  # type: ignore[misc]

    def __init__(
        self,
        env_id: str = "GaussianBandit-v0",
        num_envs: int = 1,
        oracle: bool = False,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **env_settings: Any,
    ):
        self.family = build_environment(env_id, env_settings)
        self.oracle = checked_oracle(oracle, self.family)
        length = self.family.spec.max_steps_in_episode
        has_horizon = any(each.name == "horizon" and each.init for each in dataclasses.fields(self.family))  # type: ignore[arg-type]
        setting = f"horizon={max_episode_steps}" if has_horizon else "a setting of the environment"
        hint = f"episodes have the length that the environment gives them: {setting} changes it"
        require(max_episode_steps in (None, length), "max_episode_steps", max_episode_steps, f"{length} or None", hint)
        self.num_envs = require_int("num_envs", num_envs, 1, MAX_ENVS)
        self._camera = Camera(self.family, render_mode, self.num_envs)
        self.render_mode = render_mode
        self._spec: GymSpec | None = None
        self.single_observation_space, self.single_action_space = spaces_of(self.family)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._mode = _checked_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self._mode}  # type: ignore[misc]
        self._lives: Life | None = None
        self._seen: Seen | None = None
        self._over = np.zeros(self.num_envs, bool)  # episodes that wait for their restart

    @property
    def spec(self) -> GymSpec | None:  # type: ignore[override]
        """What ``gymnasium.make_vec`` made this from; its ``max_episode_steps`` is the length of an episode."""
        return self._spec

    @spec.setter
    def spec(self, spec: GymSpec | None) -> None:
        self._spec = with_episode_length(spec, self.family)

    @property
    def tasks(self) -> TaskParams:
        """The parameters of the tasks in play, leaves [N, ...]."""
        return reset_first(self._lives).task

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,  # type: ignore[override]
        options: Mapping[str, Any] | None = None,  # type: ignore[override]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes.

        Args:
          seed: s stands for s, s + 1, ..., s + N - 1; a list holds one seed for each sub-environment, or None for one
            that goes on without: at the first reset it draws its task, later it keeps it, as a single one does.
          options: "new_task" (bool), "task" (parameters with leaves [N, ...]) and "reset_mask" (bool [N]: the
            sub-environments to be reset; the others, and what was last seen of them, stay as they are).
        """
        wishes = checked_options(options, ("new_task", "task", "reset_mask"))
        mask = self._checked_mask(wishes.get("reset_mask"))
        seeds = None if seed is None else self._checked_seeds(seed)
        task = checked_tasks(self.family, wishes["task"], self.num_envs) if "task" in wishes else None
        given = [one for one in seeds or () if one is not None]
        super().reset(seed=given[0] if given else None)
        lives = self._lives_to_begin(seeds or [None] * self.num_envs, wishes.get("new_task", False))
        lives = lives if task is None else lives._replace(task=task)
        begun = begin_many(self.family, self.oracle, lives)
        if not mask.all():
            found, kept = begun[0].task.max_steps_in_episode, self.tasks.max_steps_in_episode
            require(found == kept, "max_steps_in_episode", found, f"{kept}, as in the tasks that reset_mask keeps")
            begun = choose_many(mask, begun, (self._lives, self._seen))
        self._lives, self._seen = begun
        self._over &= ~mask
        self._camera.begin(self._seen.obs, mask)
        return np.array(self._seen.obs), infos_of(self.family, self._seen, mask)

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one action [N], or [N, A] in boxes, in each sub-environment; rewards float64 [N], flags bool [N]."""
        lives, waiting, final = reset_first(self._lives), self._over, None
        actions = checked_actions("actions", actions, (self.num_envs,), self.family.spec)
        if self._mode is AutoresetMode.SAME_STEP:
            self._lives, self._seen, final = step_many(self.family, self.oracle, lives, actions)
        else:
            self._refuse_to_go_on(waiting)
            self._lives, self._seen = restart_or_step_many(self.family, self.oracle, lives, actions, waiting)
        measured = np.asarray(self._seen.measured)
        terminated, truncated = measured[:, 1] > 0, measured[:, 2] > 0
        infos = infos_of(self.family, self._seen, np.ones(self.num_envs, bool))
        over = terminated | truncated
        if final is None:
            self._over = over
        elif over.any():
            infos |= final_infos_of(self.family, final, over)
        self._camera.add(self._seen.obs, actions, measured[:, 0], np.zeros_like(over) if final is None else over)
        if waiting.any():
            self._camera.begin(self._seen.obs, waiting)
        return np.array(self._seen.obs), measured[:, 0].astype(np.float64), terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """The moment now in each of the N: pixels [H, W, 3] uint8 or texts; None without a ``render_mode``."""
        lives = reset_first(self._lives)
        if self.render_mode is None:
            return None
        each = (take_one(lives, np.int32(i)) for i in range(self.num_envs))
        return tuple(self._camera.shoot(i, life.task, life.state) for i, life in enumerate(each))

    def _refuse_to_go_on(self, waiting: np.ndarray) -> None:
        if self._mode is AutoresetMode.DISABLED and waiting.any():
            which = np.flatnonzero(waiting)[:5].tolist()
            raise ResetNeeded(
                f"episodes are over in {which}: call reset(options={{'reset_mask': ...}}) to restart them"
            )

    def _lives_to_begin(self, seeds: list[int | None], new_task: bool) -> Life:
        """The lives of ``seeds``; where there is None those in play, or at the first reset any."""
        unseeded = np.array([one is None for one in seeds])
        drawn = self._lives
        if drawn is None or not unseeded.all():
            anything = self.np_random.integers(2**32, size=self.num_envs) if unseeded.any() else np.zeros(len(seeds))
            numbers = np.array([other if one is None else one for one, other in zip(seeds, anything, strict=True)])
            drawn = draw_many(self.family, keys_for(key_for(0, "gymnasium"), jnp.asarray(numbers.astype(np.uint32))))
        if self._lives is None or not unseeded.any():
            return drawn
        lives = draw_next_many(self.family, self._lives) if new_task else self._lives
        if unseeded.all():
            return lives._replace(state=None)
        begun: Life = choose_many(unseeded, lives._replace(state=None), drawn)
        return begun

    def _checked_seeds(self, seed: Any) -> list[int | None]:
        """A seed, or None, for each of the N sub-environments."""
        if not isinstance(seed, (list, tuple, np.ndarray)):
            first = require_int("seed", seed, 0, MAX_SEED + 1 - self.num_envs)
            return list(range(first, first + self.num_envs))
        require(len(seed) == self.num_envs, "seed", f"{len(seed)} seeds", f"one, or {self.num_envs} of them")
        return [None if one is None else require_int(f"seed[{i}]", one, 0, MAX_SEED) for i, one in enumerate(seed)]

    def _checked_mask(self, mask: Any) -> np.ndarray:
        """Which sub-environments to reset, [N] bool."""
        if mask is None:
            return np.ones(self.num_envs, bool)
        mask = checked_array("options['reset_mask']", mask, "b", (self.num_envs,))
        require(bool(mask.any()), "options['reset_mask']", "all False", "True somewhere")
        started = self._lives is not None
        require(started or bool(mask.all()), "options['reset_mask']", "a part", "all True at the first reset")
        return mask


def _checked_mode(mode: Any) -> AutoresetMode:
    known = [each.value for each in AutoresetMode]
    fits = isinstance(mode, AutoresetMode) or mode in known
    require(fits, "autoreset_mode", mode, f"a gymnasium.vector.AutoresetMode, or {', '.join(known)}")
    return AutoresetMode(mode)
