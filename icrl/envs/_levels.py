"""The three sizes of POPGym's games (Morad et al. 2023, "POPGym: Benchmarking partially observable RL")."""

import dataclasses
from typing import TypeVar

from icrl.core.fields import setting
from icrl.envs._one_task import OneTask

LEVELS = ("easy", "medium", "hard")
Number = TypeVar("Number", int, str)


@dataclasses.dataclass(frozen=True)
class Levelled(OneTask):
    """A game of POPGym. Its level stands for sizes, each of which is a setting too and then overrides the level."""

    level: str = setting("easy", choices=LEVELS, help="size of the game")

    def by_level(self, given: Number | None, easy: Number, medium: Number, hard: Number) -> Number:
        """``given``, or the value of the level if that is None or an empty text."""
        return dict(zip(LEVELS, (easy, medium, hard), strict=True))[self.level] if given in (None, "") else given  # type: ignore[return-value]
