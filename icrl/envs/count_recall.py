"""Count Recall: how often has a card like this one been dealt? (Morad et al. 2023)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec
from icrl.envs._card_game import CardGame
from icrl.envs._decks import KINDS, deal, full_deck, look


@struct.dataclass
class CountRecallState:
    """Two decks, one of which is counted while the other asks."""

    time: Array  # [] int32, actions done
    left: Array  # [kinds] int32, cards of each kind in the deck that is counted
    queries_left: Array  # [kinds] int32, and in the one that asks
    shown: Array  # [] int32, the latest card
    query: Array  # [] int32, the kind that is asked for


@environments.register("CountRecall-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class CountRecall(CardGame):
    """Observation [2]: the kind of the card that is dealt, and the kind that is asked for, from a deck of its own.

    Action: how many cards of that kind have been dealt in this episode, the one that is shown included, 0 to the number
    in the deck. Right earns 1 / (n - 1), wrong loses it. n = 52 cards of two colours, 104 of four suits or 208 of
    thirteen ranks, so 27, 27 or 17 actions, and n - 1 steps; a random player gets -0.925, -0.926 and -0.884.
    """

    DECKS = (1, 2, 4)
    cards: str = setting("", choices=("", *KINDS), help="what tells cards apart; empty: as the level has it")

    @property
    def kinds(self) -> int:
        """Kinds of cards."""
        return KINDS[self.by_level(self.cards, "colors", "suits", "ranks")]

    @property
    def stake(self) -> float:
        return 1 / (self.num_cards - 1)

    @property
    def spec(self) -> EnvSpec:
        return self.cards_spec(self.num_cards // self.kinds + 1, self.num_cards - 1, self.kinds, self.kinds)

    def begin(self, first: Array, second: Array) -> CountRecallState:
        deck = full_deck(self.num_cards, self.kinds)
        card, left = deal(first, deck)
        query, queries_left = deal(second, deck)
        return CountRecallState(jnp.int32(0), left, queries_left, card, query)

    def advance(self, state: CountRecallState, first: Array, second: Array) -> CountRecallState:
        card, left = deal(first, state.left)
        query, queries_left = deal(second, state.queries_left)
        return CountRecallState(state.time + 1, left, queries_left, card, query)

    def observe(self, state: CountRecallState) -> Array:
        return jnp.stack([state.shown, state.query])

    def answer(self, state: CountRecallState) -> tuple[Array, Array]:
        return self.num_cards // self.kinds - look(state.left, state.query), jnp.bool_(True)
