"""Autoencode: watch a deck, then play it back, the last card first (Morad et al. 2023)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec
from icrl.envs._card_game import CardGame
from icrl.envs._decks import SUITS, deal, full_deck, lay, look


@struct.dataclass
class AutoencodeState:
    """What has been dealt."""

    time: Array  # [] int32, actions done
    left: Array  # [4] int32, cards of each suit in the deck
    cards: Array  # [n] int8, suits by the time they are shown; 0 where nothing has been dealt


@environments.register("Autoencode-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class Autoencode(CardGame):
    """Observation [2]: 1 while there are cards to come and 0 from the last one on; the suit that is shown, 0 to 3.

    Action: a suit. While cards come, in the first n - 1 steps, actions earn nothing. In the n steps after that the
    suits are asked for in reverse order, the one on the table first; right earns 1 / n, wrong loses it, and nothing
    more is shown (the suit is 0). A random player gets -0.5. n = 52, 104 or 156 cards, and 2 n - 1 steps.
    """

    DECKS = (1, 2, 3)

    @property
    def stake(self) -> float:
        return 1 / self.num_cards

    @property
    def spec(self) -> EnvSpec:
        return self.cards_spec(SUITS, 2 * self.num_cards - 1, 2, SUITS)

    def begin(self, first: Array, second: Array) -> AutoencodeState:
        del second
        card, left = deal(first, full_deck(self.num_cards, SUITS))
        time = jnp.int32(0)
        return AutoencodeState(time, left, lay(jnp.zeros(self.num_cards, jnp.int8), time, card))

    def advance(self, state: AutoencodeState, first: Array, second: Array) -> AutoencodeState:
        del second
        card, left = deal(first, state.left)
        time = state.time + 1
        return AutoencodeState(time, left, lay(state.cards, time, card))

    def observe(self, state: AutoencodeState) -> Array:
        is_watching = state.time < self.num_cards - 1
        return jnp.stack([is_watching.astype(jnp.int32), look(state.cards, state.time)])

    def answer(self, state: AutoencodeState) -> tuple[Array, Array]:
        last = self.num_cards - 1
        return look(state.cards, 2 * last - state.time), state.time >= last
