"""Repeat Previous: cards are turned over, and the suit of k cards ago is asked for (Morad et al. 2023)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.errors import require_int
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec
from icrl.envs._card_game import CardGame
from icrl.envs._decks import SUITS, deal, full_deck, lay, look


@struct.dataclass
class RepeatPreviousState:
    """What has been dealt."""

    time: Array  # [] int32, actions done
    left: Array  # [4] int32, cards of each suit in the deck
    hand: Array  # [k] int8, the latest suits; that of card i in place i mod k


@environments.register("RepeatPrevious-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class RepeatPrevious(CardGame):
    """Observation [1]: the suit of the card that is turned over, 0 to 3. Action: a suit, again one of four.

    From the k-th card on the suit of the k-th latest is asked for, the one that is shown included: with k = 1 the card
    on the table, with k = 4 that of three steps ago (POPGym's own reading of k). Right earns 1 / (n - k), wrong loses
    it; a random player gets -0.5. n = 52, 104 or 156 cards, k = 4, 32 or 64, and n - 1 steps.
    """

    DECKS = (1, 2, 3)
    k: int | None = setting(None, low=1, high="most_back", help="which of the latest cards; none: as the level has it")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("k", self.back, 1, self.most_back)  # one that comes with the level may not fit the decks either

    @property
    def back(self) -> int:
        """The k in play."""
        return self.by_level(self.k, 4, 32, 64)

    @property
    def most_back(self) -> int:
        """The largest k that the deck has a card for."""
        return self.num_cards - 1

    @property
    def stake(self) -> float:
        return 1 / (self.num_cards - self.back)

    @property
    def spec(self) -> EnvSpec:
        return self.cards_spec(SUITS, self.num_cards - 1, SUITS)

    def begin(self, first: Array, second: Array) -> RepeatPreviousState:
        del second
        card, left = deal(first, full_deck(self.num_cards, SUITS))
        hand = lay(jnp.zeros(self.back, jnp.int8), jnp.int32(0), card)
        return RepeatPreviousState(jnp.int32(0), left, hand)

    def advance(self, state: RepeatPreviousState, first: Array, second: Array) -> RepeatPreviousState:
        del second
        card, left = deal(first, state.left)
        time = state.time + 1
        return RepeatPreviousState(time, left, lay(state.hand, time % self.back, card))

    def observe(self, state: RepeatPreviousState) -> Array:
        return look(state.hand, state.time % self.back)[None]

    def answer(self, state: RepeatPreviousState) -> tuple[Array, Array]:
        # the place that the next card takes holds the oldest
        return look(state.hand, (state.time + 1) % self.back), state.time + 1 >= self.back
