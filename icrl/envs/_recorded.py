"""An environment of which there are records and nothing else: its spaces are known, nobody can act in it.

Histories from elsewhere (``icrl import``) have one, so that a recipe can be trained on them as on those of any family.
"""

import dataclasses
import math
from typing import Any, NoReturn, Self

from icrl.core.errors import InputError, require
from icrl.core.fields import setting
from icrl.core.types import Array, Environment, EnvSpec, EnvState, TaskParams

MAX_AXES = 8
LARGEST = 3.4028234e38  # of float32, for observations without bounds: settings are finite


@dataclasses.dataclass(frozen=True)
class RecordedEnvironment(Environment[TaskParams]):
    """K, the form of observations and the length of episodes, as a card of imported histories tells them.

    It is in no registry: ``icrl run --data FOLDER`` takes it from the card. Its tasks are those of the set, by their
    places in it.
    """

    family: str = setting("recorded", help="what its source calls it")
    actions: int = setting(2, low=1, high=65536, help="K, actions")
    obs_shape: str = setting("1", help="shape of an observation, 5x5x2 for instance")
    obs_nvec: str = setting("", help="each scalar is an integer in 0 .. n - 1: 12x12; empty: they are real numbers")
    obs_low: float = setting(-LARGEST, low=-LARGEST, high=LARGEST, help="no observation lies below")
    obs_high: float = setting(LARGEST, low=-LARGEST, high=LARGEST, help="no observation lies above")
    horizon: int = setting(1, low=1, high=2**24, help="H, steps of the longest episode; of the history if none ends")
    ends_early: bool = setting(False, help="whether episodes differ in length")
    recorded_tasks: int = setting(1, low=1, high=2**31 - 1, help="tasks of the set")

    def __post_init__(self) -> None:
        super().__post_init__()
        shape, counts = _numbers("obs_shape", self.obs_shape), _numbers("obs_nvec", self.obs_nvec)
        require(1 <= len(shape) <= MAX_AXES, "obs_shape", self.obs_shape, f"1 to {MAX_AXES} lengths, as in 5x5x2")
        one_each = len(counts) in (0, math.prod(shape))
        require(one_each, "obs_nvec", self.obs_nvec, f"empty, or {math.prod(shape)} numbers, one a scalar")

    @classmethod
    def of(cls, spec: EnvSpec, num_tasks: int) -> Self:
        """The environment with the spaces of ``spec``."""
        return cls(
            family=spec.name,
            actions=spec.num_actions,
            obs_shape=_text(spec.obs_shape),
            obs_nvec=_text(spec.obs_nvec),
            obs_low=max(float(spec.obs_low), -LARGEST),
            obs_high=min(float(spec.obs_high), LARGEST),
            horizon=spec.max_steps_in_episode,
            ends_early=spec.ends_early,
            recorded_tasks=num_tasks,
        )

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            name=self.family,
            num_actions=self.actions,
            obs_shape=_numbers("obs_shape", self.obs_shape),
            obs_low=self.obs_low,
            obs_high=self.obs_high,
            max_steps_in_episode=self.horizon,
            obs_nvec=_numbers("obs_nvec", self.obs_nvec),
            ends_early=self.ends_early,
            observes_state=False,  # nobody knows
        )

    @property
    def is_recorded(self) -> bool:
        return True

    @property
    def num_tasks(self) -> int:
        return self.recorded_tasks

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"env: {self.family} is known from records alone and cannot be played; name one with its spaces: --env"
        )

    def task(self, index: Array) -> TaskParams:
        self._refuse()

    def sample_task(self, key: Array) -> TaskParams:
        self._refuse()

    def validate_task(self, params: TaskParams) -> None:
        self._refuse()

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, EnvState]:
        self._refuse()

    def step_env(
        self, key: Array, state: EnvState, action: Array, params: TaskParams
    ) -> tuple[Array, EnvState, Array, Array, dict[str, Array]]:
        self._refuse()

    def is_truncated(self, state: EnvState, params: TaskParams) -> Array:
        self._refuse()

    def optimal_action(self, params: TaskParams, state: EnvState) -> Array:
        self._refuse()

    def regret(self, params: TaskParams, state: EnvState, action: Array) -> Array:
        self._refuse()

    def optimal_return(self, params: TaskParams) -> Array:
        self._refuse()


def _text(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))


def _numbers(field: str, text: str) -> tuple[int, ...]:
    """(5, 5, 2) for "5x5x2"."""
    parts: list[Any] = text.split("x") if text else []
    digits = all(part.isascii() and part.isdigit() and 1 <= len(part) <= 9 and int(part) >= 1 for part in parts)
    require(digits, field, text, "positive integers with an x between them, as in 5x5x2")
    return tuple(map(int, parts))
