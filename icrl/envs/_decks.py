"""Decks of 52 cards: dealt from the counts of what is left, which is a shuffled deck drawn as it is turned over.

No array of a deck is kept: an episode is as quick to begin with sixteen decks as with one. Masked sums stand for
gathers, which are slow under ``vmap`` on a CPU.
"""

import jax.numpy as jnp

from icrl.core.threefry import below, bits
from icrl.core.types import Array

CARDS = 52  # of one deck
MAX_DECKS = 64  # ``below`` is exact for fewer than 2^16 cards
KINDS = {"colors": 2, "suits": 4, "ranks": 13}  # as many cards of each kind
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

    The ranks of random words, by comparing all pairs: on a CPU that is cheaper than a sort for the few cells of a
    board, and ``Environment.step`` begins an episode at every step. Equal words, one pair in 2^32, stay in order.
    """
    words, order = bits(key, (size,)), jnp.arange(size)
    earlier = order[None] < order[:, None]
    smaller = (words[None] < words[:, None]) | ((words[None] == words[:, None]) & earlier)
    return jnp.sum(smaller, axis=1, dtype=jnp.int32)
