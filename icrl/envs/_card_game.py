"""What POPGym's games of cards share: a deck is turned over card by card, and each answer is right or wrong."""

import abc
import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.threefry import words
from icrl.core.types import Array, EnvSpec, EnvState, TaskParams
from icrl.envs._decks import CARDS, MAX_DECKS
from icrl.envs._levels import Levelled


@dataclasses.dataclass(frozen=True)
class CardGame(Levelled):
    """A right answer earns ``stake``, a wrong one loses it, and the cards come as they come, whatever is answered.

    Departure from POPGym: the end of the deck counts as a time limit, not as a termination, as it always comes after
    the same number of steps.
    """

    DECKS: ClassVar[tuple[int, int, int]]  # of the levels
    decks: int | None = setting(None, low=1, high=MAX_DECKS, help="decks of 52 cards; none: as many as the level has")

    @property
    def num_cards(self) -> int:
        """n, cards in play."""
        return CARDS * self.by_level(self.decks, *self.DECKS)

    @property
    @abc.abstractmethod
    def stake(self) -> float:
        """What an answer is worth."""

    @abc.abstractmethod
    def begin(self, first: Array, second: Array) -> EnvState:
        """The state before the first answer, from two random words."""

    @abc.abstractmethod
    def advance(self, state: EnvState, first: Array, second: Array) -> EnvState:
        """The state after an answer, from two random words."""

    @abc.abstractmethod
    def observe(self, state: EnvState) -> Array:
        """What is seen, [O] int32."""

    @abc.abstractmethod
    def answer(self, state: EnvState) -> tuple[Array, Array]:
        """The right answer, [] int32, and whether one is asked for, [] bool."""

    def cards_spec(self, num_actions: int, num_steps: int, *nvec: int) -> EnvSpec:
        """The spec of a game whose observation is numbers 0 .. n - 1, one for each n of ``nvec``."""
        return EnvSpec(
            type(self).__name__, num_actions, (len(nvec),), 0.0, max(nvec) - 1.0, num_steps, nvec, observes_state=False
        )

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, EnvState]:
        del params
        state = self.begin(*words(key, 2))
        return self.observe(state).astype(jnp.float32), state

    def step_env(
        self, key: Array, state: EnvState, action: Array, params: TaskParams
    ) -> tuple[Array, EnvState, Array, Array, dict[str, Array]]:
        del params
        right, is_asked = self.answer(state)
        won = jnp.where(action == right, jnp.float32(self.stake), -self.stake)
        after = self.advance(state, *words(key, 2))
        obs = self.observe(after).astype(jnp.float32)
        return obs, after, jnp.where(is_asked, won, 0.0), jnp.bool_(False), {}

    def optimal_action(self, params: TaskParams, state: EnvState) -> Array:
        """The right answer; 0 where none is asked for."""
        del params
        right, is_asked = self.answer(state)
        return jnp.where(is_asked, right, 0).astype(jnp.int32)

    def regret(self, params: TaskParams, state: EnvState, action: Array) -> Array:
        """Twice the stake for a wrong answer."""
        del params
        right, is_asked = self.answer(state)
        return jnp.where(is_asked & (action != right), jnp.float32(2 * self.stake), 0.0)

    def optimal_return(self, params: TaskParams) -> Array:
        del params
        return jnp.float32(1.0)
