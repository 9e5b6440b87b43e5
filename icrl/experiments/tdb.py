"""TDB: a transformer with a discrete bottleneck makes a map of a room of look-alike cells and plans on it.

Dedieu et al., "Learning Cognitive Maps from Transformer Representations for Efficient Planning in Partially Observed
Environments", ICML 2024, arXiv 2401.05946. Of the abstract: the bottleneck keeps the accuracy of a transformer and an
LSTM in predicting the next observation, and makes shortest paths cheap. The paper's body could not be read; the room
is the demo room of George et al. 2021 (6 x 8 cells, 4 symbols), the settings are ours. Beside the model stand the same
network without a bottleneck, an LSTM, and the exact competitor, a clone-structured graph (``clone_graph.py``). The
exact filter of the known room is the most that can be predicted.

A model is trained on random walks to predict the next symbols. Frozen, it reads other walks; its codes are counted into
a map (``world_map.py``), and on the map ways are planned between two places of yet other walks, and done with eyes
closed. With ``--colouring fresh`` every walk is in a room of its own, and has a map of its own.

MEASURED
"""

import itertools
import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import require
from icrl.core.registry import experiments
from icrl.core.seeding import key_for
from icrl.core.settings import flat, replaced
from icrl.envs.aliased_room import AliasedRoom
from icrl.evaluation import cognitive_maps as maps
from icrl.evaluation.statistics import Interval, interval, ratio_interval, task_interval
from icrl.models._token_policy import Policy
from icrl.models.transformer import TransformerConfig
from icrl.planning import clone_graph
from icrl.planning.world_map import NO_NODE, WorldMap, map_of
from icrl.recipes.checks import Row, at_most, kept, row
from icrl.recipes.model_experiment import Model, ModelExperiment, listeners
from icrl.recipes.run import Run
from icrl.recipes.walk_recipe import WalkRecipe
from icrl.training.loop import train
from icrl.training.step import FitSettings

GRAPH, EXACT = "CSCG", "exact filter"
POINTS = 24  # of a curve
BASE = WalkRecipe(
    env=AliasedRoom(),
    backbone=TransformerConfig(
        width=64, num_layers=3, num_heads=4, positions="rotary", attention_window=24, mlp_ratio=2.0, init_std=0.1
    ),
    fit=FitSettings(train_steps=2500, batch_size=32, learning_rate=2e-3, warmup_steps=100),
    vary=("discrete+model+num_layers=true:transformer:3,false:transformer:3,false:lstm:1",),
)
LABELS = {
    "discrete true, model transformer, num layers 3": "TDB",
    "discrete false, model transformer, num layers 3": "transformer",
    "discrete false, model lstm, num layers 1": "LSTM",
}
SMOKE = {
    "width": 16, "num_layers": 1, "num_heads": 2, "train_steps": 20, "batch_size": 8, "log_every": 10, "save_every": 20,
    "warmup_steps": 5, "walk_steps": 12, "num_codes": 16, "code_dim": 8, "decoder_width": 16, "num_targets": 2,
    "eval_walks": 6, "eval_steps": 30, "map_walks": 6, "burn_in": 10, "journeys": 4, "clones": 6, "graph_walks": 6,
    "graph_steps": 40, "em_steps": 4, "vary": ("discrete=true,false",),
}  # fmt: skip
LARGE = {
    "width": 256, "num_layers": 4, "num_heads": 8, "mlp_ratio": 4.0, "init_std": 0.02, "train_steps": 20_000,
    "batch_size": 128, "learning_rate": 5e-4, "warmup_steps": 500, "walk_steps": 128, "log_every": 200,
    "save_every": 2000, "train_seeds": 5, "eval_walks": 1000, "map_walks": 500, "clones": 70, "em_steps": 1000,
    "vary": ("discrete+model+num_layers=true:transformer:4,false:transformer:4,false:lstm:1",),
}  # fmt: skip


class Codes(NamedTuple):
    """The codes of one encoder of walks: a model with a bottleneck, or a clone-structured graph."""

    mapped: np.ndarray  # [N, T, M] int, of the walks from which a map is counted
    asked: np.ndarray  # [N, T, M] int, of the walks in which questions are asked


@experiments.register("tdb", paper="Dedieu et al. 2024; George et al. 2021")
class TDB(ModelExperiment[WalkRecipe]):
    """Next-observation models with and without a bottleneck, and the maps of those that have one."""

    title = "A map from a transformer with a discrete bottleneck"
    labels = {
        **LABELS,
        "discrete true": "TDB",
        "discrete false": "transformer",
        **{label.replace("layers 3", "layers 4"): name for label, name in LABELS.items()},
    }
    presets = {
        "smoke": replaced(BASE, SMOKE),
        "cpu": BASE,
        "paper": replaced(BASE, LARGE),
    }

    @classmethod
    def validate(cls, settings: WalkRecipe, seed: int) -> None:
        """Raise ``InputError`` for variants that do not walk in the same rooms, or have no map between them."""
        variants = cls.variants(settings)
        for label, variant in variants.items():
            shared = (variant.env, variant.survey, variant.mapping) == (settings.env, settings.survey, settings.mapping)
            require(shared, "vary", label, "settings of model, bottleneck or training: all variants see the same walks")
            variant.new_policy(seed, 0)
        discrete = any(variant.discrete for variant in variants.values())
        require(discrete, "discrete", "false", "true in one variant at least: a map is made of codes")

    @classmethod
    def pretrain(cls, settings: WalkRecipe, run: Run) -> tuple[list[Policy], dict[str, float]]:
        started = time.monotonic()
        shown = zip(cls.models(settings), cls.model_runs(settings), strict=True)
        policies = [_trained(model, listeners(model, each, run), run) for model, each in shown]
        return policies, {"training": time.monotonic() - started}

    @classmethod
    def _results(
        cls, settings: WalkRecipe, run: Run, policies: list[Policy], seconds: dict[str, float]
    ) -> dict[str, Any]:
        started = time.monotonic()
        sections = _evaluated(settings, run, list(zip(cls.models(settings), policies, strict=True)))
        seconds = {**seconds, "evaluation": time.monotonic() - started}
        return run.results(
            title=cls.title,
            train_seeds=list(range(settings.train_seeds)),
            env={"id": settings.env.name, **flat(settings.env)},
            published=list(cls.published),
            seconds={**seconds, "total": sum(seconds.values())},
            training=run.mean_training(cls.kinds(settings), settings.train_seeds),
            **sections,
        )


def _trained(model: Model, heard_by: list[Any], run: Run) -> Policy:
    recipe: WalkRecipe = model.recipe
    batches = recipe.batches(run.seed, model.train_seed)
    learner = recipe.learner(run.seed, model.train_seed, batches, recipe.held_out(run.seed))
    return train(learner, run.folder, model.number, heard_by)


def _evaluated(settings: WalkRecipe, run: Run, trained: list[tuple[Model, Policy]]) -> dict[str, Any]:
    """The sections of the results."""
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
            "drawn": [_drawn(name, worlds[name], codes[name], mapped, asked, questions) for name in codes],
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
    read = (codes.mapped, walked.symbols[:, :steps], walked.actions[:, : steps - 1])
    parts = [read] if settings.one_room else [tuple(field[i : i + 1] for field in read) for i in range(len(read[0]))]
    return [map_of(*part, settings.env.num_actions, settings.mapping) for part in parts]


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
    parts = [_by_walk(getattr(gone, each)[there], questions.walk[there]) for each in (field, "fewest")]
    return ratio_interval(*parts)


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
            lengths = [kept_band(partial(_length, gone[name], questions, field)) for field in ("length", "fallback")]
            cells += [nodes, _purity(world, codes[name], mapped), _success(gone[name], questions).band(), *lengths]
        rows.append([*cells, *["-"] * (7 - len(cells))])
    return {
        "title": f"Prediction after {settings.mapping.burn_in} steps; {len(questions.walk):,} shortest-path queries",
        "columns": ["", "accuracy", "nodes", "purity", "arrive", "moves / fewest", "walk / fewest"],
        "rows": rows,
        "note": "Purity: how often a node is met in the cell that it stands for. A plan is done with eyes closed; its "
        "moves are compared with the fewest, as is the stretch of the walk between the two places, the fallback.",
    }


def kept_band(measure: Any) -> Any:
    """A value for a table, or a dash where it cannot be computed."""
    rows = kept(lambda: [{"band": measure().band()}])
    return rows[0].get("band", "-")


def _purity(world: list[WorldMap], codes: Codes, walked: maps.Walked) -> float:
    cells, steps = walked.rooms[0].size, codes.mapped.shape[1]
    if len(world) == 1:
        return maps.places(world[0], codes.mapped, walked.positions[:, :steps], cells)[1]
    each = [maps.places(one, codes.mapped[i], walked.positions[i, :steps], cells)[1] for i, one in enumerate(world)]
    return float(np.mean(each))


def _drawn(
    name: str, worlds: list[WorldMap], codes: Codes, mapped: maps.Walked, asked: maps.Walked, questions: maps.Queries
) -> dict[str, Any]:
    """The map of the one room, or of the first walk's, and the longest plan of the queries in the first walk."""
    world, successors, steps = worlds[0], asked.successors[0], codes.asked.shape[1]
    own = slice(len(codes.mapped) if len(worlds) == 1 else 1)
    cell, _ = maps.places(world, codes.mapped[own], mapped.positions[own, :steps], asked.rooms[0].size)
    start, action = np.nonzero((world.next != NO_NODE) & (world.next != np.arange(len(world.next))[:, None]))
    end = world.next[start, action]
    way, walked = [], []
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
