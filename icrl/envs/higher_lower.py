"""Higher Lower: will the next card be higher or lower than this one? (Morad et al. 2023)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._card_game import CardGame
from icrl.envs._decks import RANKS, deal, full_deck

HIGHER, LOWER = 0, 1


@struct.dataclass
class HigherLowerState:
    """The card that is shown and the one that is not yet."""

    time: Array  # [] int32, actions done
    left: Array  # [13] int32, cards of each rank in the deck after the next one
    shown: Array  # [] int32, rank of the latest card
    next: Array  # [] int32, rank of the one that lies on top of the deck


@environments.register("HigherLower-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class HigherLower(CardGame):
    """Observation [1]: the rank of the card that is turned over, 0 to 12. Action: the next is 0 higher or 1 lower.

    Right earns 1 / n, wrong loses it, equal ranks earn nothing. n = 52, 104 or 156 cards, and n - 1 steps. A random
    player gets 0, one who goes by the rank alone 0.497, one who counts the cards 0.529, 0.518 and 0.511. The oracle,
    who knows the next card, earns wherever ranks differ, 12 / 13 on average.
    """

    DECKS = (1, 2, 3)

    @property
    def stake(self) -> float:
        return 1 / self.num_cards

    @property
    def spec(self) -> EnvSpec:
        return self.cards_spec(2, self.num_cards - 1, RANKS)

    def begin(self, first: Array, second: Array) -> HigherLowerState:
        shown, left = deal(first, full_deck(self.num_cards, RANKS))
        following, left = deal(second, left)
        return HigherLowerState(jnp.int32(0), left, shown, following)

    def advance(self, state: HigherLowerState, first: Array, second: Array) -> HigherLowerState:
        del second
        following, left = deal(first, state.left)  # behind the last card nobody looks
        return HigherLowerState(state.time + 1, left, state.next, following)

    def observe(self, state: HigherLowerState) -> Array:
        return state.shown[None]

    def answer(self, state: HigherLowerState) -> tuple[Array, Array]:
        return jnp.where(state.next > state.shown, HIGHER, LOWER), state.next != state.shown

    def optimal_return(self, params: TaskParams) -> Array:
        """(n - 1) / n times the chance 48 d / (52 d - 1) that two cards of d decks differ in rank."""
        del params
        return jnp.float32(1 - 1 / RANKS)
