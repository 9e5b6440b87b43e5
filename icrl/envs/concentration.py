"""Concentration, or Memory: find pairs among cards that lie face down (Morad et al. 2023)."""

import dataclasses
import math

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._decks import CARDS, KINDS, shuffled
from icrl.envs._levels import Levelled

NONE = -1  # no card is held


@struct.dataclass
class ConcentrationState:
    """The table of this episode."""

    time: Array  # [] int32, actions done
    faces: Array  # [n] int32, kinds of the cards
    up: Array  # [n] bool, those of pairs that have been found
    held: Array  # [] int32, the card that waits for a second one, or ``NONE``


@environments.register("Concentration-v0", paper="Morad et al. 2023")
@dataclasses.dataclass(frozen=True)
class Concentration(Levelled):
    """Observation [n]: the kind of each card that lies face up, and the number of kinds for one that lies face down.

    Action: a card, 0 to n - 1, which is turned up. Two in turn that are a pair stay up and earn 2 / n; two that are
    none, or one card twice, cost 2 / T, are shown once and lie face down again. Choosing one that is up for good costs
    1 / T, or 2 / T as the second of two. The episode terminates with the last pair; its time limit is
    T = ceil(2 n - n / (2 n - 1)). n = 52 and 104 cards of two colours, or 52 of thirteen ranks; T = 104, 208 and 104.
    A random player gets -0.19, -0.18 and -0.84.
    """

    decks: int | None = setting(None, low=1, high=16, help="decks of 52 cards; none: as many as the level has")
    cards: str = setting("", choices=("", "colors", "ranks"), help="what makes a pair; empty: as the level has it")

    @property
    def num_cards(self) -> int:
        """The n in play."""
        return CARDS * self.by_level(self.decks, 1, 2, 1)

    @property
    def kinds(self) -> int:
        """Kinds of cards."""
        return KINDS[self.by_level(self.cards, "colors", "colors", "ranks")]

    @property
    def num_steps(self) -> int:
        """T."""
        return math.ceil(2 * self.num_cards - self.num_cards / (2 * self.num_cards - 1))

    @property
    def spec(self) -> EnvSpec:
        n, values = self.num_cards, self.kinds + 1
        nvec = (values,) * n
        return EnvSpec(
            type(self).__name__, n, (n,), 0.0, self.kinds, self.num_steps, nvec, ends_early=True, observes_state=False
        )

    def reset_env(self, key: Array, params: TaskParams) -> tuple[Array, ConcentrationState]:
        del params
        faces = shuffled(key, self.num_cards) % self.kinds
        down = jnp.zeros(self.num_cards, bool)
        return self._seen(faces, down), ConcentrationState(jnp.int32(0), faces, down, jnp.int32(NONE))

    def step_env(
        self, key: Array, state: ConcentrationState, action: Array, params: TaskParams
    ) -> tuple[Array, ConcentrationState, Array, Array, dict[str, Array]]:
        del key, params
        cards = jnp.arange(self.num_cards)
        turned = (cards == action) | (cards == state.held)
        after, made, failed = self._turn(state, action)
        reward = made * jnp.float32(2 / self.num_cards) - failed / jnp.float32(self.num_steps)
        return self._seen(state.faces, state.up | turned), after, reward, jnp.all(after.up), {}

    def _seen(self, faces: Array, is_shown: Array) -> Array:
        return jnp.where(is_shown, faces, self.kinds).astype(jnp.float32)

    def _turn(self, state: ConcentrationState, action: Array) -> tuple[ConcentrationState, Array, Array]:
        """The table afterwards, whether a pair is made, [] bool, and the number of cards that count as failed."""
        cards = jnp.arange(self.num_cards)
        chosen, waiting = cards == action, cards == state.held
        was_up, is_second = jnp.any(chosen & state.up), state.held != NONE
        kind, wanted = (jnp.sum(jnp.where(which, state.faces, 0)) for which in (chosen, waiting))
        made = is_second & ~was_up & (action != state.held) & (kind == wanted)
        failed = jnp.where(is_second, jnp.where(made, 0, 2), jnp.where(was_up, 1, 0))
        held = jnp.where(is_second | was_up, NONE, action).astype(jnp.int32)
        up = state.up | (made & (chosen | waiting))
        return ConcentrationState(state.time + 1, state.faces, up, held), made, failed

    def _pairs(self, state: ConcentrationState) -> Array:
        """Pairs that can still be made: two steps each, but one for that of the card that is held."""
        down = jnp.sum(~state.up) // 2
        return jnp.minimum(down, (self.num_steps - state.time + (state.held != NONE)) // 2)

    def optimal_action(self, params: TaskParams, state: ConcentrationState) -> Array:
        """The first card that makes a pair with the one that is held; the first that lies face down if none is."""
        del params
        cards = jnp.arange(self.num_cards)
        wanted = jnp.sum(jnp.where(cards == state.held, state.faces, 0))
        makes_pair = (state.faces == wanted) & (cards != state.held)
        return jnp.argmax(~state.up & (makes_pair | (state.held == NONE))).astype(jnp.int32)

    def regret(self, params: TaskParams, state: ConcentrationState, action: Array) -> Array:
        """What failed cards cost, and a pair that there is no time for then."""
        del params
        after, made, failed = self._turn(state, action)
        lost = self._pairs(state) - self._pairs(after) - made
        return lost * jnp.float32(2 / self.num_cards) + failed / jnp.float32(self.num_steps)

    def optimal_return(self, params: TaskParams) -> Array:
        del params
        return jnp.float32(1.0)
