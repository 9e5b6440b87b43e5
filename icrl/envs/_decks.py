"""Decks of 52 cards: dealt from the counts of what is left, which is a shuffled deck drawn as it is turned over.

No array of a deck is kept: an episode is as quick to begin with sixteen decks as with one. Masked sums stand for
gathers, which are slow under ``vmap`` on a CPU.
"""

import jax
import jax.numpy as jnp

from icrl.core.threefry import below, bits
from icrl.core.types import Array

CARDS = 52  # of one deck
MAX_DECKS = 64  # ``below`` is exact for fewer than 2^16 cards
KINDS = {"colors": 2, "suits": 4, "ranks": 13}  # as many cards of each kind
CHUNK = 13  # random words that are compared at once
SUITS, RANKS = KINDS["suits"], KINDS["ranks"]


def full_deck(num_cards: int, kinds: int) -> Array:
    """Cards of each kind in a deck, [kinds] int32."""
    return jnp.full(kinds, num_cards // kinds, jnp.int32)


def deal(word: Array, left: Array) -> tuple[Array, Array]:
    """The kind of the next card, [] int32, and what is left then; the last kind if nothing is.

    Args:
      word: [] uint32, random.
      left: [kinds] int32, cards of each kind that are left.
    """
    kinds = jnp.arange(left.size, dtype=jnp.int32)
    up_to = jnp.sum(jnp.where(kinds[None] <= kinds[:, None], left[None], 0), axis=1)
    card = jnp.sum(below(word, up_to[-1]) >= up_to[:-1]).astype(jnp.int32)
    return card, jnp.maximum(left - (kinds == card), 0)


def look(cards: Array, place: Array) -> Array:
    """The card in ``place`` [] int32 of a row [n], [] int32; 0 beyond its end."""
    return jnp.sum(jnp.where(jnp.arange(cards.size) == place, cards, 0), dtype=jnp.int32)


def lay(cards: Array, place: Array, card: Array) -> Array:
    """The row with ``card`` in ``place``; as it was if that is beyond its end."""
    return jnp.where(jnp.arange(cards.size) == place, card.astype(cards.dtype), cards)


def shuffled(key: Array, size: int) -> Array:
    """The numbers 0 .. size - 1 in random order, [size] int32; ``key`` is consumed.

    The rank of each of so many random words, whose lowest bits are exchanged for their places so that no two are equal
    (with 1 024 cards, two would be ordered by place with a chance of 2^-22). All pairs are compared, ``CHUNK`` words
    at a time: ``Environment.step`` begins an episode at every step, and on a CPU this takes half as long as a sort.
    Without the scan XLA would draw the words anew for every pair.
    """
    spare = max(size - 1, 1).bit_length()
    drawn = (bits(key, (size,)) >> spare << spare) | jnp.arange(size, dtype=jnp.uint32)
    padding = jnp.full(-size % CHUNK, 2**32 - 1, jnp.uint32)  # below none of them
    chunks = jnp.concatenate([drawn, padding]).reshape(-1, CHUNK)

    def add(ranks: Array, others: Array) -> tuple[Array, None]:
        return ranks + jnp.sum(others[:, None] < drawn[None], axis=0, dtype=jnp.int32), None

    return jax.lax.scan(add, jnp.zeros(size, jnp.int32), chunks)[0]
