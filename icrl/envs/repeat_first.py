"""Repeat First: the suit of the first card is asked for at every step (Morad et al. 2023)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec
from icrl.envs._card_game import CardGame
from icrl.envs._decks import SUITS, deal, full_deck


@struct.dataclass
class RepeatFirstState:
    """What has been dealt."""

    time: Array  # [] int32, actions done
    left: Array  # [4] int32, cards of each suit in the deck
    first: Array  # [] int32, suit of the first card
    shown: Array  # [] int32, of the latest


@environments.register("RepeatFirst-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class RepeatFirst(CardGame):
    """Observation [1]: the suit of the card that is turned over, 0 to 3. Action: a suit.

    The suit of the episode's first card earns 1 / (n - 1), any other loses it; a random player gets -0.5. n = 52, 416
    or 832 cards, and n - 1 steps. Nothing but memory tells which card was the first.
    """

    DECKS = (1, 8, 16)

    @property
    def stake(self) -> float:
        return 1 / (self.num_cards - 1)

    @property
    def spec(self) -> EnvSpec:
        return self.cards_spec(SUITS, self.num_cards - 1, SUITS)

    def begin(self, first: Array, second: Array) -> RepeatFirstState:
        del second
        card, left = deal(first, full_deck(self.num_cards, SUITS))
        return RepeatFirstState(jnp.int32(0), left, card, card)

    def advance(self, state: RepeatFirstState, first: Array, second: Array) -> RepeatFirstState:
        del second
        card, left = deal(first, state.left)
        return RepeatFirstState(state.time + 1, left, state.first, card)

    def observe(self, state: RepeatFirstState) -> Array:
        return state.shown[None]

    def answer(self, state: RepeatFirstState) -> tuple[Array, Array]:
        return state.first, jnp.bool_(True)
