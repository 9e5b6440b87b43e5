"""Clone-structured graphs against sums over all paths, and against the sets of places that explain a walk."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.envs.aliased_room import AliasedRoom
from icrl.evaluation.cognitive_maps import walk
from icrl.planning import clone_graph
from icrl.planning.clone_graph import Blocks, CloneGraph, Walks, random_graph, room_graph

ACTIONS_OF, SYMBOLS_OF, CLONES = 2, 2, 2
SHAPE = (ACTIONS_OF, SYMBOLS_OF, SYMBOLS_OF, CLONES, CLONES)
SYMBOLS = jnp.array([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]])
ACTIONS = jnp.array([[0, 1, 1, 0], [1, 0, 0, 1]])
WALKS = Walks(SYMBOLS, ACTIONS)


@pytest.fixture(scope="module")
def graph():
    return random_graph(jax.random.key(3), ACTIONS_OF, SYMBOLS_OF, CLONES)


def paths(graph, symbols, actions):
    """Every path of clones of one walk and its joint probability with the symbols, float64."""
    transition, start = (np.asarray(each, np.float64) for each in graph)
    for path in itertools.product(range(CLONES), repeat=len(symbols)):
        p = start[symbols[0], path[0]]
        for n, action in enumerate(actions):
            p *= transition[action, symbols[n], symbols[n + 1], path[n], path[n + 1]]
        yield path, p


def test_one_step_of_em_counts_as_the_sum_over_all_paths_does(graph):
    after, value = clone_graph.em_step(graph, WALKS, Blocks.of(WALKS, graph), jnp.float32(0.1))
    counts, logs = np.full(SHAPE, 0.1), []
    for symbols, actions in zip(SYMBOLS.tolist(), ACTIONS.tolist(), strict=True):
        weighted = list(paths(graph, symbols, actions))
        total = sum(p for _, p in weighted)
        logs.append(np.log(total / np.asarray(graph.start, np.float64)[symbols[0]].sum()))
        for (path, p), n in itertools.product(weighted, range(len(actions))):
            counts[actions[n], symbols[n], symbols[n + 1], path[n], path[n + 1]] += p / total
    np.testing.assert_allclose(after.transition, counts / counts.sum((2, 4), keepdims=True), rtol=2e-5)
    assert float(value) == pytest.approx(np.mean(logs) / 4, rel=1e-5)


def test_em_never_explains_the_walks_worse(graph):
    values = []
    for _ in range(12):
        graph, value = clone_graph.em_step(graph, WALKS, Blocks.of(WALKS, graph), jnp.float32(1e-9))
        values.append(float(value))
    assert (np.diff(values) > -1e-5).all()
    assert values[-1] - values[0] > 0.1


def test_viterbi_training_counts_the_likeliest_path(graph):
    after, value = clone_graph.viterbi_step(graph, WALKS)
    counts, logs = np.zeros(SHAPE), []
    for symbols, actions in zip(SYMBOLS.tolist(), ACTIONS.tolist(), strict=True):
        path, p = max(paths(graph, symbols, actions), key=lambda each: each[1])
        logs.append(np.log(p))
        for n, action in enumerate(actions):
            counts[action, symbols[n], symbols[n + 1], path[n], path[n + 1]] += 1
    np.testing.assert_allclose(after.transition, counts / np.maximum(counts.sum((2, 4), keepdims=True), 1))
    assert float(value) == pytest.approx(np.mean(logs) / 4, rel=1e-5)


def test_the_law_of_the_next_symbol_is_the_sum_over_all_paths(graph):
    law = np.asarray(clone_graph.predicted(graph, WALKS))
    transition = np.asarray(graph.transition, np.float64)
    for walk_, n in itertools.product(range(2), range(4)):
        symbols, actions = SYMBOLS[walk_].tolist(), ACTIONS[walk_].tolist()
        expected = np.zeros(SYMBOLS_OF)
        for path, p in paths(graph, symbols[: n + 1], actions[:n]):
            expected += p * transition[actions[n], symbols[n], :, path[-1]].sum(-1)
        np.testing.assert_allclose(law[walk_, n], expected / expected.sum(), rtol=1e-5)


def test_the_filter_of_a_known_room_is_the_set_of_places_that_explain_the_walk():
    env = AliasedRoom()
    walked = walk(env, 0, "test", 20, 30)
    symbols, successors = walked.rooms[0].ravel(), walked.successors[0]
    graph, states = room_graph(symbols, successors, env.num_symbols)
    law, found = np.asarray(clone_graph.predicted(graph, walked.for_graph())), []
    for number in range(20):
        possible = symbols == walked.symbols[number, 0]
        for n, action in enumerate(walked.actions[number]):
            expected = np.bincount(symbols[successors[possible, action]], minlength=env.num_symbols) / possible.sum()
            np.testing.assert_allclose(law[number, n], expected, atol=1e-5)
            after = np.zeros(48, bool)
            after[successors[possible, action]] = True
            # two places may have become one: the filter then counts it twice, and so must we
            weights = np.bincount(successors[possible, action], minlength=48)
            if (weights > 1).any():
                break
            possible = after & (symbols == walked.symbols[number, n + 1])
            found.append(possible.sum())
    assert min(found) == 1  # some walks have told their place
    filtered = np.asarray(clone_graph.filtered(graph, walked.for_graph()))
    assert (filtered[:, 25:] == states[walked.positions[:, 25:]]).all()


def test_what_was_never_seen_empties_no_message():
    """A transition of probability zero in a walk: the filter goes on with finite numbers."""
    graph = CloneGraph(jnp.zeros(SHAPE).at[:, 0, 0, 0, 0].set(1.0), jnp.full((SYMBOLS_OF, CLONES), 0.25))
    law = np.asarray(clone_graph.predicted(graph, WALKS))
    assert np.isfinite(law).all()
    np.testing.assert_allclose(law.sum(-1), 1, rtol=1e-5)


@pytest.mark.nightly
def test_the_demo_room_is_learned_from_ten_thousand_steps():
    """The published setting: 70 clones of a symbol, pseudocount 2e-3; 14 CPU seconds."""
    env = AliasedRoom()
    trained = clone_graph.fit(
        random_graph(jax.random.key(2), 4, 4, 70), walk(env, 0, "graph", 50, 200).for_graph(), em_steps=200
    )
    held_out = walk(env, 1, "test", 50, 150)
    law = np.asarray(clone_graph.predicted(trained.graph, held_out.for_graph()))
    assert (law.argmax(-1) == held_out.symbols[:, 1:])[:, 50:].mean() >= 0.99
    assert np.diff(trained.expectation).min() > -1e-4
