"""Task diversity on Bernoulli bandits: does a model memorise its tasks or generalise (Raventos et al. 2023)?

Models are pretrained on pools of D tasks (DPT, fresh histories for ever) and compared with two exact posterior
samplers: M_D, which knows that the task is one of the D, and G, Thompson sampling with the uniform prior. In tasks of
the pool M_D is best, in fresh tasks G. The relative distance (Wurgaft et al. 2025) says whose choices the model's are
like on the same prefixes: r = (d(h, G) - d(h, M)) / d(G, M), shown as (r + 1) / 2, with symmetrised Kullback-Leibler
divergences averaged over fresh tasks; every distribution is mixed with 0.1 % of the uniform one, because M_D knows
arms to be worthless. Where D is so large that M_D and G agree, it means nothing.

The question is Raventos et al.'s for regression; for bandits there is no published number. Exact values of our own,
T = 200 (8 pools, between which the spread is large): G 10.59; M_D in its pool 0, 2.90, 7.32, 9.69 for D = 1, 8, 64,
512, and in fresh tasks 67, 27, 12.4, 10.5.

Measured, preset cpu, seed 0 (2026-11-26, two CPU cores, 4 minutes), regret(100) for D = 1, 8, 64, 512. In the pool: DPT
0.00, 4.83, 8.97, 9.94; M_D 0, 4.27, 6.02, 7.81. In fresh tasks: DPT 32.9, 12.4, 11.7, 10.0; M_D 32.9, 12.6, 9.58, 8.46;
G 8.18. Relative distance after 100 pulls .99, .77, .37, .19, after 7 pulls .99, .94, .88, .91: on one
task the model is M_D, on 8 nearly so; on 512 it is nearer to G where the context is long, and to M_D before.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from icrl.agents.posterior_pool import PosteriorPool
from icrl.core.errors import require
from icrl.core.registry import experiments
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent
from icrl.datasets.contexts import ContextGenerator
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.evaluation.diversity import agent_probs, distance_of_choices, model_probs
from icrl.evaluation.offline import recorded_contexts
from icrl.evaluation.online import Trial
from icrl.evaluation.statistics import Interval, interval, ratio_interval
from icrl.models._token_policy import Policy
from icrl.models.transformer import TransformerConfig
from icrl.recipes.agent_names import agent_of
from icrl.recipes.checks import Measured, Row, at_most, kept
from icrl.recipes.data import contexts_of
from icrl.recipes.measure import curve
from icrl.recipes.parts import Evaluation, Prediction
from icrl.recipes.pretraining import Groups, RecipeExperiment
from icrl.recipes.published import SMOKE, sizes
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import Run
from icrl.training.step import FitSettings

MODEL, MEMORY, GENERAL = "dpt", "memorising", "thompson-bernoulli"
LABELS = {MODEL: "DPT (ours)", MEMORY: "posterior over the pool", GENERAL: "posterior, uniform prior"}
PREFIXES = 8
BASE = Recipe(
    env=BernoulliBandit(horizon=100),
    prediction=Prediction(layout="query-first"),
    backbone=TransformerConfig(width=32, num_layers=2, num_heads=1, positions="none", init_std=0.2),
    fit=FitSettings(train_steps=1500, batch_size=64, learning_rate=3e-3),
    evaluation=Evaluation(eval_tasks=1000, competitors=(GENERAL, "uniform")),
    vary=("task_pool=1,8,64,512",),
)


@experiments.register("task-diversity-bandit", paper="Raventos et al. 2023")
class TaskDiversityBandit(RecipeExperiment):
    """DPT on pools of D Bernoulli bandits."""

    title = "Task diversity on Bernoulli bandits: memorise or generalise"
    presets = sizes(
        BASE,
        smoke={
            **SMOKE, "num_arms": 3, "horizon": 10, "vary": ("task_pool=1,4",), "eval_tasks": 40, "offline_tasks": 20,
        },
        cpu={},
        paper={
            "horizon": 200, "width": 64, "num_layers": 4, "num_heads": 2, "init_std": 0.02, "positions": "learned",
            "train_steps": 100_000, "batch_size": 256, "learning_rate": 1e-3, "log_every": 500, "save_every": 5000,
            "vary": ("task_pool=" + ",".join(str(2**power) for power in range(13)),),
            "train_seeds": 3, "eval_tasks": 4000, "offline_tasks": 1000,
        },
    )  # fmt: skip

    @classmethod
    def validate(cls, settings: Recipe, seed: int) -> None:
        """Raise ``InputError`` for what cannot be compared with the two posteriors."""
        super().validate(settings, seed)
        pools = [recipe.data.task_pool for recipe in cls.variants(settings).values()]
        require(None not in pools, "vary", settings.vary, "task_pool=D,... and nothing beside it", "or --task-pool D")
        require(len(set(pools)) == len(pools), "vary", settings.vary, "each task_pool once")
        require(isinstance(settings.env, BernoulliBandit), "env", settings.env.name, "BernoulliBandit-v0")
        against = settings.evaluation.competitors
        require(bool({GENERAL, "all"} & set(against)), "competitors", ",".join(against), f"{GENERAL} among them")

    @classmethod
    def extra_sections(cls, settings: Recipe, run: Run, groups: Groups, measured: Measured) -> dict[str, Any]:
        """Regret by size of the pool, in the pool and in fresh tasks, and the relative distance."""
        by_size = {recipe.data.task_pool or 0: label for label, (recipe, _) in groups.items()}
        places: dict[str, dict[str, list[Interval]]] = {"pool": {}, "fresh": {}}
        checks: list[Row] = []
        for size, label in sorted(by_size.items()):
            recipe, policies = groups[label]
            regrets = _in_pool_and_fresh(recipe, policies, run.seed)
            regrets["fresh"] |= {MODEL: _last(measured[label]), GENERAL: _last(measured[GENERAL])}
            for place, finals in regrets.items():
                for name, final in finals.items():
                    places[place].setdefault(name, []).append(interval(final))
            for place, extreme, limit in (("pool", min, 0.5), ("fresh", max, 1.3)):
                if size == extreme(by_size):
                    checks += kept(partial(_checks, place, size, regrets[place], limit))
        first = {size: (groups[label][0], groups[label][1][0]) for size, label in by_size.items()}
        return {
            "claim": _claim(settings, sorted(by_size), places),
            "diversity": {
                "pool_size": sorted(by_size),
                **{place: {name: row_of(name, row) for name, row in rows.items()} for place, rows in places.items()},
                "prefix": _prefixes(settings).tolist(),
                "distance": np.stack([_distances(*first[size], run.seed) for size in sorted(by_size)], axis=1),
            },
            "checks": checks if run.preset != "smoke" else [],
        }


def pool_of(recipe: Recipe, seed: int, train_seed: int) -> TaskSet:
    """The D tasks that training seed ``train_seed`` learns from; a smaller pool is the beginning of a larger one."""
    contexts = contexts_of(recipe, seed, f"pretrain/{train_seed}")
    assert isinstance(contexts, ContextGenerator)
    return contexts.pool()


def memory_of(pool: TaskSet, recipe: Recipe) -> PosteriorPool:
    """M_D, which knows that the task is one of the pool's."""
    return PosteriorPool.for_env(recipe.env, means=pool.params.means)


def _last(curves: dict[str, np.ndarray]) -> np.ndarray:
    return curves["regret"][..., -1]


def _in_pool_and_fresh(recipe: Recipe, policies: list[Policy], seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Final regrets [S, N]: of everybody in each seed's pool, and of each seed's M_D in the fresh tasks of all."""
    count = recipe.evaluation.eval_tasks
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    fresh = TaskSet.draw(recipe.env, seed, "test", count)
    for train_seed, policy in enumerate(policies):
        pool = pool_of(recipe, seed, train_seed)
        memory, at_home = memory_of(pool, recipe), pool.repeat(-(-count // len(pool)))[:count]
        players: dict[str, Agent] = {
            MODEL: recipe.agent(policy), MEMORY: memory, GENERAL: agent_of(recipe.env, GENERAL),
        }  # fmt: skip
        for place, name, tasks in (*(("pool", name, at_home) for name in players), ("fresh", MEMORY, fresh)):
            label = f"{name}, D = {len(pool)}, {place}"
            trial = Trial(recipe.env, tasks, recipe.eval_steps, seed)
            final = trial.regret(players[name], train_seed, label)[:, -1]
            found.setdefault(place, {}).setdefault(name, []).append(final)
    return {place: {name: np.stack(rows) for name, rows in finals.items()} for place, finals in found.items()}


def _prefixes(recipe: Recipe) -> np.ndarray:
    """0 and about evenly spaced on a logarithmic axis to C, [P]."""
    spaced = np.geomspace(1, recipe.context_steps, PREFIXES).round()
    return np.unique(np.append(0, spaced).astype(int))


def _distances(recipe: Recipe, policy: Policy, seed: int) -> np.ndarray:
    """The relative distance of one model at each prefix of contexts in fresh tasks, [P]."""
    env = recipe.env
    tasks = TaskSet.draw(env, seed, "offline", recipe.evaluation.offline_tasks)
    contexts = recorded_contexts(env, tasks, agent_of(env, recipe.sources[0]), recipe.context_steps, seed).contexts
    at = jnp.asarray(_prefixes(recipe))
    memory = agent_probs(memory_of(pool_of(recipe, seed, 0), recipe), contexts, at)
    general = agent_probs(agent_of(env, GENERAL), contexts, at)
    return distance_of_choices(model_probs(recipe.layout, policy, contexts, at), memory, general)


def row_of(name: str, row: list[Interval]) -> dict[str, Any]:
    """One agent's regret by size of the pool."""
    mean, low, high = (np.array([getattr(each, part) for each in row]) for part in ("mean", "low", "high"))
    joined = Interval(mean, low, high, row[0].method)
    return {**curve(name, "regret", joined, {MODEL: ""}, GENERAL), "label": LABELS[name]}


def _checks(place: str, size: int, finals: dict[str, np.ndarray], limit: float) -> list[Row]:
    """In its pool the model beats G, which does not know it; in fresh tasks it is near it."""
    ratio = ratio_interval(finals[MODEL], finals[GENERAL][0])
    return [at_most(f"regret in {place} tasks, D = {size}, DPT / posterior under the uniform prior", ratio, limit)]


def _claim(recipe: Recipe, sizes_of: list[int], places: dict[str, dict[str, list[Interval]]]) -> str:
    small, large = (
        f"{places['pool'][MODEL][i].mean:.2f} in its pool and {places['fresh'][MODEL][i].mean:.2f} in fresh tasks"
        for i in (0, -1)
    )
    return (
        f"Pretrained on {sizes_of[0]} tasks the model loses {small} after {recipe.eval_steps} pulls, "
        f"on {sizes_of[-1]} tasks {large}; Thompson sampling {places['fresh'][GENERAL][0].mean:.2f}."
    )
