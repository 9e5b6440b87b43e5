"""What frozen models of walks are worth: predictions, maps and ways planned on them, as sections of a results document.

Letters: N walks of T symbols; M bottlenecks, whose codes together are a node; Q queries.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import require
from icrl.core.seeding import key_for
from icrl.evaluation import cognitive_maps as maps
from icrl.evaluation.statistics import Interval, interval, ratio_interval, task_interval
from icrl.models._token_policy import Policy
from icrl.planning import clone_graph
from icrl.planning.world_map import WorldMap, map_of
from icrl.recipes.checks import Row, at_most, kept, row
from icrl.recipes.model_experiment import Model
from icrl.recipes.run import Run
from icrl.recipes.walk_recipe import WalkRecipe

GRAPH, EXACT = "CSCG", "exact filter"
POINTS = 24  # of a curve


class Codes(NamedTuple):
    """The codes of one encoder of walks: a model with a bottleneck, or a clone-structured graph."""

    mapped: np.ndarray  # [N, T, M] int, of the walks from which a map is counted
    asked: np.ndarray  # [N, T, M] int, of the walks in which questions are asked


def sections_of(settings: WalkRecipe, run: Run, trained: list[tuple[Model, Policy]]) -> dict[str, Any]:
    """The sections of the results of an experiment on walks."""
    survey, ahead = settings.survey, max(model.recipe.bottleneck.num_targets for model, _ in trained)
    steps = survey.eval_steps
    asked = maps.walk(settings.env, run.seed, "evaluation", survey.eval_walks, steps + ahead)
    mapped = asked
    if settings.one_room:
        mapped = maps.walk(settings.env, run.seed, "map", survey.map_walks, steps + ahead)
    hits: dict[str, list[np.ndarray]] = {}
    codes: dict[str, Codes] = {}
    for model, policy in trained:
        found, read = _read(model.recipe, policy, asked, steps)
        hits.setdefault(model.label, []).append(found)
        if read is not None and model.label not in codes:  # the map of the first training seed
            codes[model.label] = Codes(_read(model.recipe, policy, mapped, steps)[1], read)  # type: ignore[arg-type]
    if settings.one_room:
        tables, more = _graphs(settings, run.seed, asked, mapped, steps)
        hits |= {name: [each] for name, each in tables.items()}
        codes |= more
    questions = maps.queries(asked, settings.mapping.burn_in, steps - 1, survey.journeys, run.seed)
    worlds = {name: _maps(settings, each, mapped, steps) for name, each in codes.items()}
    gone = {name: maps.travelled(worlds[name], each.asked, asked, questions) for name, each in codes.items()}
    labels = {model.label for model, _ in trained}
    accuracy = {name: np.stack(each)[:, :, settings.mapping.burn_in :].mean(-1) for name, each in hits.items()}
    first = next(iter(codes))
    return {
        "claim": _claim(first, accuracy, gone, settings),
        "num_tasks": survey.eval_walks,
        "num_steps": steps,
        "maps": {
            "step": (at := _points(steps)).tolist(),
            "agents": {name: _curve(name, each, at, labels) for name, each in hits.items()},
            "drawn": [_drawn(settings, name, worlds[name], codes[name], mapped, asked, questions) for name in codes],
        },
        "tables": [_table(accuracy, worlds, codes, mapped, gone, questions, settings)],
        "checks": _checks(settings, accuracy, gone, questions, first) if run.preset != "smoke" else [],
    }


def _read(recipe: WalkRecipe, policy: Policy, walked: maps.Walked, steps: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Hits [N, T] and codes [N, T, M] of a model."""
    length = steps + recipe.bottleneck.num_targets
    history = type(walked.history)(*(field[:, :length] for field in walked.history))
    return maps.read(recipe.objective, policy, history)


def _graphs(
    settings: WalkRecipe, seed: int, asked: maps.Walked, mapped: maps.Walked, steps: int
) -> tuple[dict[str, np.ndarray], dict[str, Codes]]:
    """Hits of the exact filter and of the trained graph in the one room, and the codes of the latter."""
    env, survey = settings.env, settings.survey
    room = clone_graph.room_graph(asked.rooms[0].reshape(-1), asked.successors[0], env.num_symbols)[0]
    hits = {EXACT: _graph_hits(room, asked, steps)}
    if not survey.clones:
        return hits, {}
    walked = maps.walk(env, seed, "graph", survey.graph_walks, survey.graph_steps)
    begun = clone_graph.random_graph(key_for(seed, "graph"), env.num_actions, env.num_symbols, survey.clones)
    graph = clone_graph.fit(begun, walked.for_graph(), survey.pseudocount, survey.em_steps).graph
    read = [np.asarray(clone_graph.filtered(graph, each.for_graph()))[:, :steps, None] for each in (mapped, asked)]
    return hits | {GRAPH: _graph_hits(graph, asked, steps)}, {GRAPH: Codes(*read)}


def _graph_hits(graph: clone_graph.CloneGraph, walked: maps.Walked, steps: int) -> np.ndarray:
    """Whether the likeliest next symbol is the one that came, [N, T] bool."""
    law = np.asarray(clone_graph.predicted(graph, walked.for_graph()))
    return (law.argmax(-1) == walked.symbols[:, 1:])[:, :steps]


def _maps(settings: WalkRecipe, codes: Codes, walked: maps.Walked, steps: int) -> list[WorldMap]:
    """One map of all walks, or one of each where they are in rooms of their own."""
    symbols, actions = walked.symbols[:, :steps], walked.actions[:, : steps - 1]
    every = slice(None)
    parts = [every] if settings.one_room else [slice(walk, walk + 1) for walk in range(len(symbols))]
    count, mapping = settings.env.num_actions, settings.mapping
    return [map_of(codes.mapped[part], symbols[part], actions[part], count, mapping) for part in parts]


def _points(steps: int) -> np.ndarray:
    """Numbers of symbols seen, from 1, about evenly spaced on a logarithmic axis, [P]."""
    return np.unique(np.geomspace(1, steps, POINTS).round().astype(int))


def _curve(name: str, hits: list[np.ndarray], at: np.ndarray, models: set[str]) -> dict[str, Any]:
    """Accuracy at each of the numbers ``at`` of symbols seen: the mean since the one before, so that it is smooth."""
    values = np.stack(hits).astype(float)  # [S, N, T]
    binned = np.stack([values[..., low:high].mean(-1) for low, high in itertools.pairwise([0, *at])], -1)
    measured = interval(binned) if name in models else task_interval(binned[0])
    kind = "model" if name in models else "ideal" if name == EXACT else "baseline"
    label = f"{name} (ours)" if name in models else name
    return {
        "kind": kind,
        "label": label,
        "interval": measured.method.replace("tasks", "walks"),
        "accuracy": measured.band(),
    }


def _by_walk(values: np.ndarray, walk_of: np.ndarray) -> np.ndarray:
    """Sums of ``values`` [Q] over the queries of each walk that has any, [N]."""
    return np.bincount(np.unique(walk_of, return_inverse=True)[1], values.astype(float))


def _success(gone: maps.Journeys, questions: maps.Queries) -> Interval:
    asked = _by_walk(np.ones(len(gone.arrived)), questions.walk)
    return task_interval(_by_walk(gone.arrived, questions.walk) / asked)


def _length(gone: maps.Journeys, questions: maps.Queries, field: str) -> Interval:
    """Moves of the plans (or of the fallback) over the fewest, of the queries whose plan arrives."""
    there = gone.arrived
    require(bool(there.any()), "journeys", "none that arrives", "one at least, to compare its length")
    ours, fewest = (_by_walk(getattr(gone, each)[there], questions.walk[there]) for each in (field, "fewest"))
    return ratio_interval(ours, fewest)


def _table(
    accuracy: dict[str, np.ndarray],
    worlds: dict[str, list[WorldMap]],
    codes: dict[str, Codes],
    mapped: maps.Walked,
    gone: dict[str, maps.Journeys],
    questions: maps.Queries,
    settings: WalkRecipe,
) -> dict[str, Any]:
    rows = []
    for name, values in accuracy.items():
        cells: list[Any] = [name, interval(values).band()]
        if name in gone:
            world = worlds[name]
            nodes = float(np.mean([len(each.next) for each in world]))
            lengths = [_cell(partial(_length, gone[name], questions, field)) for field in ("length", "fallback")]
            cells += [
                nodes,
                _purity(settings, world, codes[name], mapped),
                _success(gone[name], questions).band(),
                *lengths,
            ]
        rows.append([*cells, *["-"] * (7 - len(cells))])
    return {
        "title": f"Prediction after {settings.mapping.burn_in} steps; {len(questions.walk):,} shortest-path queries",
        "columns": ["", "accuracy", "nodes", "purity", "arrive", "moves / fewest", "walk / fewest"],
        "rows": rows,
        "note": "Purity: how often a node is met in the cell that it stands for. A plan is done with eyes closed; its "
        "moves are compared with the fewest, as is the stretch of the walk between the two places, the fallback.",
    }


def _cell(measure: Callable[[], Interval]) -> Any:
    """A value for a table, or a dash where it cannot be computed."""
    rows = kept(lambda: [{"band": measure().band()}])
    return rows[0].get("band", "-")


def _places(
    settings: WalkRecipe, worlds: list[WorldMap], codes: Codes, walked: maps.Walked, number: int
) -> tuple[np.ndarray, float]:
    """``maps.places`` of map ``number``, by the walks that it was counted from."""
    own = slice(None) if settings.one_room else slice(number, number + 1)
    late = slice(settings.mapping.burn_in, codes.mapped.shape[1])
    return maps.places(worlds[number], codes.mapped[own, late], walked.positions[own, late], settings.env.num_cells)


def _purity(settings: WalkRecipe, worlds: list[WorldMap], codes: Codes, walked: maps.Walked) -> float:
    each = [_places(settings, worlds, codes, walked, number)[1] for number in range(len(worlds))]
    return float(np.mean(each))


def _drawn(
    settings: WalkRecipe,
    name: str,
    worlds: list[WorldMap],
    codes: Codes,
    mapped: maps.Walked,
    asked: maps.Walked,
    questions: maps.Queries,
) -> dict[str, Any]:
    """The map of the one room, or of the first walk's, and the longest plan of the queries in the first walk."""
    world, successors = worlds[0], asked.successors[0]
    cell, _ = _places(settings, worlds, codes, mapped, 0)
    start, action = world.edges
    end = world.next[start, action]
    way: list[int] = []
    walked: list[int] = []
    for first, last in zip(questions.first[questions.walk == 0], questions.last[questions.walk == 0], strict=True):
        here, there = world.nodes(codes.asked[0, [first, last]])
        plan = world.way(int(here), int(there))
        if plan is not None and len(plan) >= len(way):
            way = maps.moved(successors, asked.positions[0, first], plan)
            walked = asked.positions[0, first : last + 1].tolist()
    return {
        "label": name,
        "room": asked.rooms[0].tolist(),
        "cell": cell.tolist(),
        "visits": world.visits.tolist(),
        "edges": np.stack([start, end], axis=1).tolist(),
        "right": (successors[cell[start], action] == cell[end]).tolist(),
        "way": way,
        "walked": walked,
    }


def _checks(
    settings: WalkRecipe,
    accuracy: dict[str, np.ndarray],
    gone: dict[str, maps.Journeys],
    questions: maps.Queries,
    first: str,
) -> list[Row]:
    """What the published room promises; rooms of which each walk has another promise nothing."""
    if not settings.one_room:
        return []

    def rows() -> list[Row]:
        right, arrive = interval(accuracy[first]), _success(gone[first], questions)
        burn_in, found = settings.mapping.burn_in, []
        found += [row(f"accuracy of {first} after {burn_in} steps", right, ">= 0.99", bool(right.mean >= 0.99))]
        found += [row(f"queries in which {first} arrives", arrive, ">= 0.99", bool(arrive.mean >= 0.99))]
        return [*found, at_most(f"moves of {first} / fewest", _length(gone[first], questions, "length"), 1.05)]

    return kept(rows)


def _claim(first: str, accuracy: dict[str, np.ndarray], gone: dict[str, maps.Journeys], settings: WalkRecipe) -> str:
    others = ", ".join(f"{name} {values.mean():.4f}" for name, values in accuracy.items() if name != first)
    there, burn_in = gone[first].arrived, settings.mapping.burn_in
    longer = gone[first].length[there].sum() / max(gone[first].fewest[there].sum(), 1)
    return (
        f"After {burn_in} steps {first} predicts {accuracy[first].mean():.4f} of the next symbols ({others}); "
        f"{there.mean():.1%} of the ways planned on its map arrive, with {longer:.3f} times the fewest moves."
    )
