"""Task diversity on regression and on urns: does a model memorise its tasks or generalise (Raventos et al. 2023)?

Models are trained on ever new sequences of a pool of M tasks and compared with two exact predictors: the posterior
mean over that pool (dMMSE; for urns their mixture), and the one over the whole prior (ridge; counts + alpha).
``--family regression`` is Raventos et al.'s noisy linear regression, ``--family urns`` the balls and urns of Wurgaft et
al. 2025. Distances are those of predictions in fresh tasks: squared differences over D, or symmetrised Kullback-Leibler
divergences. The relative distance (r + 1) / 2, r = (d(h, G) - d(h, M)) / d(G, M), is Wurgaft et al.'s; it says little
where M and G agree. A pool is the beginning of larger ones, and models of all pools begin alike.
``--vary model=transformer,s5,gru,mamba2`` sets models side by side, with the bytes that each remembers: Kirsch et al.
2022 find that the accessible state decides.

Published (D = 8, K = 16, noise variance .25, 500 000 steps: preset paper, not run here): models follow dMMSE up
to about 2^6 tasks and leave it for ridge above a threshold of 2^14 to 2^15 (8 layers), 2^11 to 2^12 (4 layers of width
64). Exact values of our own at that size (40 000 sequences; 4 to 32 pools, between which the spread is 6 to 12 % at 2^3
and 2 % at 2^13): ridge loses .377 in fresh tasks, dMMSE 1.257, .831, .592, .522 on pools of 2^3, 2^7, 2^11, 2^13.

Measured, preset cpu, seed 0, one training seed, 1 000 fresh tasks (2026-11-30, two busy CPU cores), pools of 4, 32,
256 and 2 048:

- Regression, D = 4, K = 8 (5 min 42 s of CPU): relative distance .98, .48, .25, .31; loss in fresh tasks 1.03, .672,
  .558, .548, where dMMSE has 1.00, .758, .576, .510 and ridge .485. From 32 tasks on the model is better in fresh tasks
  than the posterior over its pool, until that is nearly ridge itself (.021 apart on 2 048), which the small model does
  not reach (.069 away). Before the first example it predicts as the pool's mean task would.
- Urns, V = 8, K = 32 (10 min 10 s of CPU): relative distance .99, .84, .40, .19; loss in fresh tasks 2.221, 1.942,
  1.880, 1.872 nats, the mixture of the pool 2.227, 1.956, 1.892, 1.876, the Dirichlet mean 1.871. It leaves the pool
  first where the prefix is long: on 256 urns .94 after 3 balls, .29 after 31. As Wurgaft et al. predict, it generalises
  first and comes to memorise: from step 500 to 8 000 the distance rises from .51 to .85 on 32 urns, .19 to .38 on 256.
- Models of 26 000 parameters after 2 500 steps of regression (5 min 53 s of CPU), on 4 and on 2 048 tasks: all memorise
  the 4 (relative distance .94 to .97). On 2 048 the distance to ridge is .091 for the transformer (7 688 bytes of
  state), .109 for Mamba-2 (25 392), .128 for GRU (240), .398 for S5 (256). At this size the bytes do not decide: what
  ridge needs here are 14 numbers, and GRU and S5 remember as much as each other. Likely S5's recurrence, the same at
  every step, is what costs: products of x and y are left to its gates between layers.
"""

from functools import partial
from typing import Any

import jax
import numpy as np

from icrl.core.errors import InputError
from icrl.core.registry import experiments
from icrl.core.settings import flat, replaced
from icrl.core.types import Agent
from icrl.datasets.examples import framed
from icrl.envs._linear_regression import LinearRegression
from icrl.evaluation.diversity import prediction_losses, relative_distance
from icrl.evaluation.statistics import Interval, interval, ratio_interval
from icrl.models._token_policy import Policy
from icrl.models.transformer import TransformerConfig
from icrl.recipes.checks import Row, at_most, kept
from icrl.recipes.example_recipe import ExampleRecipe, by_model
from icrl.recipes.measure import curve
from icrl.recipes.model_experiment import Model, ModelExperiment
from icrl.recipes.published import SMOKE
from icrl.recipes.run import Run
from icrl.training.learner import Learner
from icrl.training.step import FitSettings

MEMORY, GENERAL = "memorising", "generalising"
LABELS = {MEMORY: "posterior over the pool", GENERAL: "posterior, whole prior"}
LOGGED = ("to_memory", "to_general")  # in rows of metrics, by ``NextOutcome.report``
PREFIXES = 8
Measured = dict[str, np.ndarray]  # "pool model", "fresh apart", ...: see ``prediction_losses``; [S, N, K] each
BASE = ExampleRecipe(
    family=LinearRegression(dim=4, horizon=8),
    backbone=TransformerConfig(width=32, num_layers=2, num_heads=2, init_std=0.2),
    fit=FitSettings(train_steps=8000, batch_size=64, learning_rate=3e-3),
    vary=("task_pool=4,32,256,2048",),
)


@experiments.register("task-diversity", paper="Raventos et al. 2023; Wurgaft et al. 2025")
class TaskDiversity(ModelExperiment[ExampleRecipe]):
    """Next outcomes of sequences of M tasks, beside the two exact predictors."""

    title = "Task diversity: memorise or generalise"
    presets = {
        "smoke": replaced(
            BASE,
            {
                **{name: value for name, value in SMOKE.items() if name != "tune"},
                "dim": 2, "horizon": 4, "vary": ("task_pool=1,4",), "eval_tasks": 40,
            },
        ),
        "cpu": BASE,
        "paper": replaced(
            BASE,
            {
                "dim": 8, "horizon": 16, "width": 128, "num_layers": 8, "num_heads": 2, "init_std": 0.02,
                "train_steps": 500_000, "batch_size": 256, "learning_rate": 1e-3, "warmup_steps": 250_000,
                "weight_decay": 0.0, "log_every": 2500, "save_every": 10_000, "eval_tasks": 4000,
                "vary": ("task_pool=" + ",".join(str(2**power) for power in range(1, 21)),),
            },
        ),
    }  # fmt: skip

    @classmethod
    def validate(cls, settings: ExampleRecipe, seed: int) -> None:
        """Raise ``InputError`` for variants that cannot be compared with the two predictors, or with each other."""
        del seed
        for label, recipe in settings.variants().items():
            try:
                recipe.check()
            except InputError as refusal:
                raise InputError(f"variant {label}: {refusal}" if settings.vary else str(refusal)) from refusal
        by_model(settings)

    @classmethod
    def load_agent(cls, settings: ExampleRecipe, run: Run, model: int) -> Agent:
        raise InputError(f"folder: {run.experiment} pretrains no agent: its models predict and do not act")

    @classmethod
    def learner(cls, model: Model, run: Run) -> Learner:
        """Models of the same training seed begin alike, whatever their pool."""
        recipe: ExampleRecipe = model.recipe
        batches = partial(recipe.examples(run.seed, model.train_seed).batch, batch_size=recipe.fit.batch_size)
        return recipe.learner(run.seed, model.train_seed, batches, recipe.validation(run.seed, model.train_seed))

    @classmethod
    def sections(cls, settings: ExampleRecipe, run: Run, policies: list[Policy]) -> dict[str, Any]:
        groups = by_model(settings)
        trained: dict[str, list[tuple[Model, Policy]]] = {}
        for model, policy in zip(cls.models(settings), policies, strict=True):
            trained.setdefault(model.label, []).append((model, policy))
        measured = {label: _measured(each, run) for label, each in trained.items()}
        steps = {label: _by_step([model for model, _ in each], run) for label, each in trained.items()}
        found = {name: {pool: measured[label] for pool, label in pools.items()} for name, pools in groups.items()}
        strategies = {
            name: _strategy(trained[next(iter(pools.values()))][0][0].recipe, found[name], pools, steps)
            for name, pools in groups.items()
        }
        return {
            "title": f"{cls.title}, {type(settings.family).__name__}",
            "claim": _claim(found, strategies),
            "num_tasks": settings.eval_tasks,
            "num_steps": settings.family.num_examples,
            "env": {"id": type(settings.family).__name__, **flat(settings.family)},
            "diversity": _diversity(settings, found),
            "strategies": {
                "distance_in_words": settings.family.distance_in_words,
                "pool_size": list(next(iter(found.values()))),
                "apart": _band([each["fresh apart"] for each in next(iter(found.values())).values()]).band(),
                "models": strategies,
            },
            "checks": _promised(found) if run.preset != "smoke" else [],
        }


# --- measuring ---


def _measured(models: list[tuple[Model, Policy]], run: Run) -> Measured:
    """``prediction_losses`` of the seeds of one variant, in the pool of each and in fresh tasks: [S, N, K] by name."""
    found: dict[str, list[np.ndarray]] = {}
    for model, policy in models:
        losses = run.ledger.once(f"model {model.number}", partial(_losses, model, policy, run.seed))
        for name, values in losses.items():
            found.setdefault(name, []).append(values)
    return {name: np.stack(rows) for name, rows in found.items()}


def _losses(model: Model, policy: Policy, seed: int) -> dict[str, np.ndarray]:
    recipe: ExampleRecipe = model.recipe
    ids, home = np.arange(recipe.eval_tasks, dtype=np.uint32), recipe.examples(seed, model.train_seed)
    places = {"pool": home.fetch(ids, "test"), "fresh": recipe.fresh(seed).fetch(ids)}
    pool, found = home.pool(), dict[str, np.ndarray]()
    for place, examples in places.items():
        losses = prediction_losses(recipe.objective, policy, framed(recipe.family, examples, pool))
        found |= {f"{place} {name}": values for name, values in losses.items()}
    return found


def _by_step(models: list[Model], run: Run) -> tuple[list[int], np.ndarray]:
    """Steps [S] at which the seeds of a variant were logged, and their relative distance there, [S]."""
    numbers = {model.number for model in models}
    rows = [row for row in run.metrics if row["seed"] in numbers]
    steps = sorted({row["step"] for row in rows})
    to_memory, to_general = (
        np.array([np.mean([row[name] for row in rows if row["step"] == step]) for step in steps]) for name in LOGGED
    )
    held_out = [model.recipe.validation(run.seed, model.train_seed) for model in models]
    distance = jax.vmap(models[0].recipe.family.distance)
    apart = np.mean([distance(each.generalising, each.memorising) for each in held_out])
    return steps, relative_distance(to_memory, to_general, np.asarray(apart))


# --- the sections of the results ---


def _band(rows: list[np.ndarray]) -> Interval:
    """Means over the examples of sequences, one row [S, N, K] a pool, with their intervals: [D] each."""
    found = [interval(values.mean(-1)) for values in rows]
    mean, low, high = (np.array([getattr(each, part) for each in found]) for part in ("mean", "low", "high"))
    return Interval(mean, low, high, found[0].method)


def _curve(name: str, rows: list[np.ndarray], is_model: bool = False) -> dict[str, Any]:
    return {
        **curve(name, "loss", _band(rows), {name: ""} if is_model else {}, GENERAL),
        "label": LABELS.get(name, name),
    }


def _diversity(settings: ExampleRecipe, found: dict[str, dict[int, Measured]]) -> dict[str, Any]:
    """Loss by pool, in its tasks and in fresh ones, and the relative distance of the first model by prefix."""
    first, prefix = next(iter(found.values())), _prefixes(settings.family.num_examples)
    places: dict[str, dict[str, Any]] = {}
    for place in ("pool", "fresh"):
        rows = {name: [each[f"{place} model"] for each in pools.values()] for name, pools in found.items()}
        exact = {MEMORY: "memory", GENERAL: "general"}
        own = {name: [each[f"{place} {of}"] for each in first.values()] for name, of in exact.items()}
        places[place] = {name: _curve(name, each, is_model=True) for name, each in rows.items()}
        places[place] |= {name: _curve(name, each) for name, each in own.items()}
    return {
        "loss_in_words": settings.family.loss_in_words,
        "pool_size": list(first),
        **places,
        "prefix": prefix.tolist(),
        "distance": np.stack([_relative(each)[prefix] for each in first.values()], axis=1),
    }


def _relative(measured: Measured) -> np.ndarray:
    """The relative distance in fresh tasks after 0 .. K - 1 examples, [K]."""
    means = (measured[f"fresh {name}"].mean((0, 1)) for name in ("to_memory", "to_general", "apart"))
    return relative_distance(*means)


def _prefixes(num_examples: int) -> np.ndarray:
    """0 and about evenly spaced on a logarithmic axis to K - 1, [P]."""
    spaced = np.geomspace(1, max(num_examples - 1, 1), PREFIXES).round()
    return np.unique(np.minimum(np.append(0, spaced), num_examples - 1).astype(int))


def _strategy(
    recipe: ExampleRecipe,
    pools: dict[int, Measured],
    labels: dict[int, str],
    steps: dict[str, tuple[list[int], np.ndarray]],
) -> dict[str, Any]:
    """How far one model, trained on each of the pools, is from the two exact predictors."""
    bands = {name: _band([each[f"fresh {name}"] for each in pools.values()]) for name in ("to_memory", "to_general")}
    apart = _band([each["fresh apart"] for each in pools.values()]).mean
    logged = [steps[label] for label in labels.values()]
    return {
        "parameters": recipe.num_parameters,
        "state_bytes": recipe.state_bytes,
        **{name: band.band() for name, band in bands.items()},
        "relative": relative_distance(bands["to_memory"].mean, bands["to_general"].mean, apart),
        "step": logged[0][0],
        "by_step": np.stack([relative for _, relative in logged], axis=1),
    }


def _promised(found: dict[str, dict[int, Measured]]) -> list[Row]:
    """On the smallest pool the model is nearer to the predictor that memorises, on the largest to the other."""
    rows: list[Row] = []
    for name, pools in found.items():
        if len(pools) > 1:
            few, many = next(iter(pools)), next(reversed(pools))
            rows += kept(partial(_nearer, name, few, pools[few], "to_memory", "to_general"))
            rows += kept(partial(_nearer, name, many, pools[many], "to_general", "to_memory"))
    return rows


def _nearer(name: str, size: int, measured: Measured, near: str, far: str) -> list[Row]:
    ratio = ratio_interval(*(measured[f"fresh {which}"].mean(-1) for which in (near, far)))
    words = {"to_memory": "the memorising", "to_general": "the generalising"}
    what = f"{name}, {size:,} tasks: distance to {words[near]} predictor / to {words[far]} one"
    return [at_most(what, ratio, 1.0)]


def _claim(found: dict[str, dict[int, Measured]], strategies: dict[str, Any]) -> str:
    name, pools = next(iter(found.items()))
    sizes, relative = list(pools), strategies[name]["relative"]
    said = ", ".join(f"{value:.2f} on {size:,} tasks" for size, value in zip(sizes, relative, strict=True))
    loss = {which: float(pools[sizes[-1]][f"fresh {which}"].mean()) for which in ("model", "memory", "general")}
    return (
        f"Relative distance of {name} in fresh tasks (1 memorises, 0 generalises): {said}. On the largest pool it "
        f"loses {loss['model']:.3f} there, the posterior over the pool {loss['memory']:.3f}, the one over the whole "
        f"prior {loss['general']:.3f}."
    )
