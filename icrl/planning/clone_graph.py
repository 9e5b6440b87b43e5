"""Clone-structured graphs: hidden Markov models with actions whose every state shows one symbol (George et al. 2021).

Dileep George, Rajeev Rikhye, Nishad Gothoskar, J. Swaroop Guntupalli, Antoine Dedieu, Miguel Lazaro-Gredilla,
"Clone-structured graph representations enable flexible learning and vicarious evaluation of cognitive maps", 2021.

Each of O symbols has C clones, the hidden states that show it. As the symbols that were seen rule out all states but
their clones, a step of the filter costs C^2, not (O C)^2:

    m_{n+1}(j) ~ sum_i m_n(i) P(j | i, a_n)   over clones i of o_n, j of o_{n+1}.

The transitions are learned by expectation maximisation (Baum-Welch), then by Viterbi training, which counts the most
likely states alone. Messages are scaled at every step, Viterbi's are logarithms. With one clone for each cell of a
known room the same filter is the exact posterior of the place: ``room_graph``.

Letters: B walks of T moves, T + 1 symbols each; O symbols, C clones, K actions. A hidden state is o C + c.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.types import Array

SAME = 1e-5  # nats a step by which likelihood has to grow for training to go on
UNSEEN = 1e-8  # what a transition that was never seen weighs in the filter, so that no message is ever empty


class Walks(NamedTuple):
    """B walks; ``symbols`` of two more moves are as long as ``actions`` + 1."""

    symbols: Array  # [B, T + 1] int32 in 0 .. O - 1
    actions: Array  # [B, T] int32 in 0 .. K - 1


class CloneGraph(NamedTuple):
    """The parameters; ``transition[a, o, p, i, j]`` is P(clone j of p | clone i of o, a)."""

    transition: Array  # [K, O, O, C, C] float32, sums over p and j are 1 (or 0: never left by this action)
    start: Array  # [O, C] float32, sums to 1

    @property
    def num_clones(self) -> int:
        """C."""
        return self.transition.shape[-1]


class Trained(NamedTuple):
    """A graph, and how well it explains the walks: log-likelihood a step in nats after each iteration."""

    graph: CloneGraph
    expectation: list[float]
    viterbi: list[float]


def random_graph(key: Array, num_actions: int, num_symbols: int, num_clones: int) -> CloneGraph:
    """Random transitions, from which training begins; states are alike at the start."""
    shape = (num_actions, num_symbols, num_symbols, num_clones, num_clones)
    start = jnp.full((num_symbols, num_clones), 1.0 / (num_symbols * num_clones), jnp.float32)
    return CloneGraph(_normalised(jax.random.uniform(key, shape, jnp.float32)), start)


def room_graph(symbols: np.ndarray, successors: np.ndarray, num_symbols: int) -> tuple[CloneGraph, np.ndarray]:
    """The graph of a known deterministic world, and the hidden state of each of its cells.

    Args:
      symbols: [S] int, what each cell shows; below 0: not a cell.
      successors: [S, K] int, the cell behind each action.
      num_symbols: O.

    Returns:
      A graph with as many clones as the commonest symbol has cells, and states [S] int, -1 for what is not a cell.
    """
    clone = np.array([np.sum(symbols[:cell] == symbol) for cell, symbol in enumerate(symbols)])
    count, cells = int(clone.max()) + 1, np.flatnonzero(symbols >= 0)
    transition = np.zeros((successors.shape[1], num_symbols, num_symbols, count, count), np.float32)
    for action in range(successors.shape[1]):
        after = successors[cells, action]
        transition[action, symbols[cells], symbols[after], clone[cells], clone[after]] = 1.0
    start = np.zeros((num_symbols, count), np.float32)
    start[symbols[cells], clone[cells]] = 1.0 / len(cells)
    states = np.where(symbols >= 0, symbols * count + clone, -1)
    return CloneGraph(jnp.asarray(transition), jnp.asarray(start)), states


def fit(graph: CloneGraph, walks: Walks, pseudocount: float = 2e-3, em_steps: int = 1000) -> Trained:
    """Train by EM, then by Viterbi training, each until the walks are explained no better.

    The pseudocount is added to all counts of EM; Viterbi training has none, as in the released code.
    """
    counted = Blocks.of(walks, graph)
    expectation: list[float] = []
    for _ in range(em_steps):
        graph, value = em_step(graph, walks, counted, jnp.float32(pseudocount))
        expectation.append(float(value))
        if len(expectation) > 1 and expectation[-1] - expectation[-2] < SAME:
            break
    viterbi: list[float] = []
    for _ in range(em_steps):
        after, value = viterbi_step(graph, walks)
        if viterbi and float(value) - viterbi[-1] < SAME:
            break
        graph, viterbi = after, [*viterbi, float(value)]
    return Trained(graph, expectation, viterbi)


class Blocks(NamedTuple):
    """Which steps of the walks share a block (a, o, p) of transitions, so that their counts are one matrix product."""

    step: Array  # [K O O, L] int32, numbers b T + t of the steps of each block, padded
    is_step: Array  # [K O O, L] float32, 0 for padding

    @classmethod
    def of(cls, walks: Walks, graph: CloneGraph) -> "Blocks":
        """Those of ``walks``."""
        actions, symbols = np.asarray(walks.actions), np.asarray(walks.symbols)
        num_symbols = graph.transition.shape[1]
        block = ((actions * num_symbols + symbols[:, :-1]) * num_symbols + symbols[:, 1:]).reshape(-1)
        count = np.bincount(block, minlength=graph.transition.shape[0] * num_symbols**2)
        order, first = np.argsort(block, kind="stable"), np.cumsum(count) - count
        place = np.minimum(np.arange(count.max()), np.maximum(count[:, None] - 1, 0)) + first[:, None]
        is_step = np.arange(count.max()) < count[:, None]
        return cls(jnp.asarray(order[np.minimum(place, len(order) - 1)]), jnp.asarray(is_step, jnp.float32))


@jax.jit
def em_step(graph: CloneGraph, walks: Walks, blocks: Blocks, pseudocount: Array) -> tuple[CloneGraph, Array]:
    """One iteration of expectation maximisation: the graph after it, and the log-likelihood a step before it.

    The start is kept as it is: what a walk begins with says nothing of the graph.
    """
    forward, scales = jax.vmap(partial(_forward, graph))(walks.symbols, walks.actions)
    backward = jax.vmap(partial(_backward, graph))(walks.symbols, walks.actions)
    # expected counts of a step: m_n(i) P(j | i, a) b_{n+1}(j) / z; P is the same in the whole block
    weights = forward[:, :-1] / _at_least_tiny(jax.vmap(partial(_norms, graph))(walks, forward, backward))[..., None]
    size = graph.num_clones
    left, right = weights.reshape(-1, size), backward[:, 1:].reshape(-1, size)
    outer = jnp.einsum("kli,klj->kij", left[blocks.step] * blocks.is_step[..., None], right[blocks.step])
    counts = graph.transition * outer.reshape(graph.transition.shape)
    return CloneGraph(_normalised(counts + pseudocount), graph.start), jnp.mean(scales[:, 1:])


@jax.jit
def viterbi_step(graph: CloneGraph, walks: Walks) -> tuple[CloneGraph, Array]:
    """One iteration of Viterbi training: transitions as often as the likeliest states take them; as ``em_step``."""
    clones, values = jax.vmap(partial(_likeliest, graph))(walks.symbols, walks.actions)
    before, after = (walks.symbols[:, :-1], clones[:, :-1]), (walks.symbols[:, 1:], clones[:, 1:])
    counts = jnp.zeros_like(graph.transition).at[walks.actions, before[0], after[0], before[1], after[1]].add(1.0)
    return CloneGraph(_normalised(counts), graph.start), jnp.mean(values) / walks.actions.shape[1]


@jax.jit
def predicted(graph: CloneGraph, walks: Walks) -> Array:
    """P(o_{n+1} | o_1 .. o_n, a_1 .. a_n) of every next symbol, [B, T, O] float32."""
    messages = jax.vmap(partial(_forward, graph))(walks.symbols, walks.actions)[0][:, :-1]
    leaving = graph.transition.sum(-1)[walks.actions, walks.symbols[:, :-1]]  # [B, T, O, C]
    law = jnp.einsum("btoc,btc->bto", leaving, messages) + UNSEEN
    return law / law.sum(-1, keepdims=True)


@jax.jit
def filtered(graph: CloneGraph, walks: Walks) -> Array:
    """The likeliest hidden state at each symbol given all up to it, [B, T + 1] int32."""
    messages = jax.vmap(partial(_forward, graph))(walks.symbols, walks.actions)[0]
    return walks.symbols * graph.num_clones + jnp.argmax(messages, axis=-1).astype(jnp.int32)


def _forward(graph: CloneGraph, symbols: Array, actions: Array) -> tuple[Array, Array]:
    """Scaled messages [T + 1, C] over the clones of what is seen, and the log of each scale, nats."""

    def step(message: Array, item: tuple[Array, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        action, before, symbol = item
        message = message @ graph.transition[action, before, symbol] + UNSEEN
        scale = jnp.sum(message)
        return message / scale, (message / scale, jnp.log(scale))

    first = graph.start[symbols[0]]
    scale = jnp.sum(first)
    _, (messages, scales) = jax.lax.scan(step, first / scale, (actions, symbols[:-1], symbols[1:]))
    return jnp.concatenate([first[None] / scale, messages]), jnp.append(jnp.log(scale)[None], scales)


def _backward(graph: CloneGraph, symbols: Array, actions: Array) -> Array:
    """Messages [T + 1, C] from behind, each scaled to sum to 1."""

    def step(message: Array, item: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        action, before, symbol = item
        message = graph.transition[action, before, symbol] @ message + UNSEEN
        message = message / jnp.sum(message)
        return message, message

    last = jnp.full(graph.num_clones, 1.0 / graph.num_clones, jnp.float32)
    _, messages = jax.lax.scan(step, last, (actions, symbols[:-1], symbols[1:]), reverse=True)
    return jnp.concatenate([messages, last[None]])


def _norms(graph: CloneGraph, walk: Walks, forward: Array, backward: Array) -> Array:
    """sum_ij m_n(i) P(j | i, a_n) b_{n+1}(j) of each step, [T]."""

    def step(_: None, item: tuple[Array, ...]) -> tuple[None, Array]:
        action, before, symbol, left, right = item
        return None, left @ graph.transition[action, before, symbol] @ right

    items = (walk.actions, walk.symbols[:-1], walk.symbols[1:], forward[:-1], backward[1:])
    return jax.lax.scan(step, None, items)[1]


def _likeliest(graph: CloneGraph, symbols: Array, actions: Array) -> tuple[Array, Array]:
    """The likeliest clones [T + 1] int32 of one walk together (Viterbi 1967), and the log of their probability."""
    logs = jnp.log(graph.transition + UNSEEN)

    def step(score: Array, item: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        action, before, symbol = item
        ways = score[:, None] + logs[action, before, symbol]
        return jnp.max(ways, axis=0), jnp.argmax(ways, axis=0).astype(jnp.int32)

    first = jnp.log(graph.start[symbols[0]] + UNSEEN)
    score, came_from = jax.lax.scan(step, first, (actions, symbols[:-1], symbols[1:]))

    def back(clone: Array, sources: Array) -> tuple[Array, Array]:
        return sources[clone], sources[clone]

    last = jnp.argmax(score).astype(jnp.int32)
    _, earlier = jax.lax.scan(back, last, came_from, reverse=True)
    return jnp.append(earlier, last), jnp.max(score)


def _normalised(counts: Array) -> Array:
    """Counts as probabilities over the next states; 0 where there are none."""
    return counts / _at_least_tiny(counts.sum((2, 4), keepdims=True))


def _at_least_tiny(values: Array) -> Array:
    return jnp.maximum(values, jnp.finfo(jnp.float32).tiny)
