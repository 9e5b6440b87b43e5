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

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.agents.posterior_pool import PosteriorPool
from icrl.core.errors import require, require_int
from icrl.core.fields import setting
from icrl.core.model_types import Layout, ModelConfig
from icrl.core.registry import agents, experiments, models
from icrl.core.settings import check_following, follows
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Array, Contexts
from icrl.datasets.contexts import Batches, ContextGenerator
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.evaluation.offline import recorded_contexts, states_along
from icrl.evaluation.online import online_regret
from icrl.evaluation.statistics import Interval, interval
from icrl.models._token_policy import Policy
from icrl.models.transformer import TransformerConfig
from icrl.recipes.data import VALIDATION_CONTEXTS
from icrl.recipes.measure import curve
from icrl.recipes.parts import Prediction
from icrl.recipes.pretraining import PretrainingExperiment
from icrl.recipes.recipe import ByRecipe, Recipe
from icrl.recipes.run import Run
from icrl.training.step import FitSettings

MODEL, MEMORY, GENERAL = "dpt", "memorising", "generalising"
LABELS = {MODEL: "DPT (ours)"}
FLOOR = 1e-3  # share of the uniform distribution in every one that is compared
PREFIXES = 8


@dataclasses.dataclass(frozen=True)
class DiversitySettings(ByRecipe):
    """All settings of a task-diversity experiment."""

    env: BernoulliBandit
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    model: str = setting("transformer", help="registered sequence model")
    pool_sizes: tuple[str, ...] = setting(
        ("1", "8", "64", "512"), help="D, pretraining tasks of each model, increasing"
    )
    source: str = setting("dirichlet-mix", help="agent that collects the pretraining contexts")
    train_seeds: int = setting(
        1, low=1, high=1000, help="independently pretrained models of each D, each with a pool of its own"
    )
    eval_tasks: int = setting(1000, low=2, high=10**7, help="rollouts in the pool, and fresh tasks")
    offline_tasks: int = setting(200, low=2, high=10**6, help="fresh tasks behind the relative distance")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_following(self)
        agents.entry(self.source)
        digits = bool(self.pool_sizes) and all(size.isdecimal() and len(size) < 20 for size in self.pool_sizes)
        require(digits, "pool_sizes", self.pool_sizes, "integers separated by commas")
        for size in self.sizes:
            require_int("pool_sizes", size, 1, 2**20)
        require(sorted(set(self.sizes)) == self.sizes, "pool_sizes", self.pool_sizes, "increasing numbers")

    @property
    def sizes(self) -> list[int]:
        """D of each model."""
        return [int(size) for size in self.pool_sizes]

    @property
    def pretraining(self) -> Recipe:
        """The recipe of one model."""
        layout = Prediction(layout="query-first")
        return Recipe(env=self.env, backbone=self.backbone, fit=self.fit, model=self.model, prediction=layout)

    def contexts(self, size: int, seed: int, train_seed: int) -> ContextGenerator:
        """Pretraining contexts in a pool of ``size`` tasks; a smaller pool is the beginning of a larger one."""
        source = agents[self.source].for_env(self.env)
        return ContextGenerator(self.env, source, self.env.horizon, seed, f"pretrain/{train_seed}", pool_size=size)


@experiments.register("task-diversity-bandit", paper="Raventos et al. 2023")
class TaskDiversityBandit(PretrainingExperiment[DiversitySettings]):
    """DPT on pools of D Bernoulli bandits. Model m of a run has pool m // S and training seed m % S."""

    title = "Task diversity on Bernoulli bandits: memorise or generalise"
    presets = {
        "smoke": DiversitySettings(
            env=BernoulliBandit(num_arms=3, horizon=10),
            backbone=TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.2),
            fit=FitSettings(
                train_steps=20, batch_size=16, learning_rate=3e-3, warmup_steps=5, log_every=10, save_every=20
            ),
            pool_sizes=("1", "4"),
            eval_tasks=40,
            offline_tasks=20,
        ),
        "cpu": DiversitySettings(
            env=BernoulliBandit(horizon=100),
            backbone=TransformerConfig(width=32, num_layers=2, num_heads=1, positions="none", init_std=0.2),
            fit=FitSettings(train_steps=1500, batch_size=64, learning_rate=3e-3),
        ),
        "paper": DiversitySettings(
            env=BernoulliBandit(horizon=200),
            backbone=TransformerConfig(width=64, num_layers=4, num_heads=2),
            fit=FitSettings(train_steps=100_000, batch_size=256, learning_rate=1e-3, log_every=500, save_every=5000),
            pool_sizes=tuple(str(2**power) for power in range(13)),
            train_seeds=3,
            eval_tasks=4000,
            offline_tasks=1000,
        ),
    }

    @classmethod
    def validate(cls, settings: DiversitySettings, seed: int) -> None:
        """Raise ``InputError`` when the source does not fit the environment."""
        del seed
        agents[settings.source].for_env(settings.env)

    @classmethod
    def kinds(cls, settings: DiversitySettings) -> list[str]:
        return [f"{size:,} task{'' if size == 1 else 's'}" for size in settings.sizes]

    @classmethod
    def pretrain(cls, settings: DiversitySettings, run: Run) -> tuple[list[Policy], dict[str, float]]:
        """One policy per pool size and training seed."""
        started, policies = time.monotonic(), []
        source = agents[settings.source].for_env(settings.env)
        fresh = ContextGenerator(settings.env, source, settings.env.horizon, run.seed, "validation")
        held_out = fresh.fetch(np.arange(VALIDATION_CONTEXTS))
        for model in range(cls.num_models(settings)):
            index, train_seed = divmod(model, settings.train_seeds)
            contexts = settings.contexts(settings.sizes[index], run.seed, train_seed)
            batches = Batches(contexts, settings.fit.batch_size, run.seed)
            policies.append(cls._fit(settings, run, model, batches, held_out))
        return policies, {"training": time.monotonic() - started}

    @classmethod
    def evaluate(cls, settings: DiversitySettings, run: Run, policies: list[Policy]) -> dict[str, Any]:
        """Sections ``diversity`` and ``checks`` of the results."""
        regrets: dict[str, dict[str, list[Interval]]] = {"pool": {}, "fresh": {}}
        columns = []
        for index, size in enumerate(settings.sizes):
            seeds = settings.train_seeds
            group = policies[index * seeds : (index + 1) * seeds]
            for place, finals in _final_regrets(settings, size, group, run.seed).items():
                for name, final in finals.items():
                    regrets[place].setdefault(name, []).append(interval(final))
            columns.append(_distances(settings, size, group[0], run.seed))
        section = {
            "pool_size": settings.sizes,
            **{place: {name: _row(name, row) for name, row in rows.items()} for place, rows in regrets.items()},
            "prefix": _prefixes(settings).tolist(),
            "distance": np.stack(columns, axis=1),
        }
        return {
            "claim": _claim(settings, regrets),
            "num_tasks": settings.eval_tasks,
            "num_steps": settings.env.horizon,
            "diversity": section,
            "checks": _checks(regrets) if run.preset != "smoke" else [],
        }


def _final_regrets(
    settings: DiversitySettings, size: int, group: list[Policy], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Regrets after all steps, [S, N] by agent, of rollouts in each seed's pool and in fresh tasks that all share."""
    env = settings.env
    fresh = TaskSet.draw(env, seed, "test", settings.eval_tasks)
    general = agents["thompson-bernoulli"].for_env(env)
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for train_seed, policy in enumerate(group):
        pool = settings.contexts(size, seed, train_seed).pool()
        lives = pool.repeat(-(-settings.eval_tasks // size))[: settings.eval_tasks]
        players: dict[str, Agent] = {MODEL: settings.agent(policy), MEMORY: _memory(env, pool), GENERAL: general}
        for place, tasks in (("pool", lives), ("fresh", fresh)):
            for name, agent in players.items():
                label = f"{name}, D = {size}, {place}"
                regret = online_regret(env, tasks, agent, env.horizon, seed, train_seed, label)[:, -1]
                found.setdefault(place, {}).setdefault(name, []).append(regret)
    return {place: {name: np.stack(rows) for name, rows in finals.items()} for place, finals in found.items()}


def _memory(env: BernoulliBandit, pool: TaskSet) -> PosteriorPool:
    """M_D."""
    return PosteriorPool.for_env(env, means=pool.params.means)


def _prefixes(settings: DiversitySettings) -> np.ndarray:
    """0 and about evenly spaced on a logarithmic axis to T, [P]."""
    spaced = np.geomspace(1, settings.env.horizon, PREFIXES).round()
    return np.unique(np.append(0, spaced).astype(int))


def _distances(settings: DiversitySettings, size: int, policy: Policy, seed: int) -> np.ndarray:
    """The relative distance of one model at each prefix of contexts in fresh tasks, [P]."""
    env = settings.env
    tasks = TaskSet.draw(env, seed, "offline", settings.offline_tasks)
    contexts = recorded_contexts(env, tasks, agents[settings.source].for_env(env), env.horizon, seed)
    at = jnp.asarray(_prefixes(settings))
    model = model_probs(settings.pretraining.layout, policy, contexts, at)
    memory = agent_probs(_memory(env, settings.contexts(size, seed, 0).pool()), contexts, at)
    general = agent_probs(agents["thompson-bernoulli"].for_env(env), contexts, at)
    return relative_distance(model, memory, general)


def relative_distance(model: np.ndarray, memory: np.ndarray, general: np.ndarray) -> np.ndarray:
    """(r + 1) / 2 with r = (d(h, G) - d(h, M)) / d(G, M), [P], for choice probabilities [N, P, K] each."""
    to_general, to_memory, apart = (
        _divergence(model, general), _divergence(model, memory), _divergence(general, memory),
    )  # fmt: skip
    return ((to_general - to_memory) / np.maximum(apart, 1e-12) + 1) / 2


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Mean over N of (KL(p | q) + KL(q | p)) / 2 in nats, [P], float64."""
    p, q = ((1 - FLOOR) * np.asarray(x, np.float64) + FLOOR / x.shape[-1] for x in (p, q))
    return np.sum((p - q) * np.log(p / q), axis=-1).mean(0) / 2


def model_probs(layout: Layout, policy: Policy, contexts: Contexts, at: Array) -> np.ndarray:
    """Softmax of a model after the prefixes ``at`` [P] of contexts [N, T, ...]: [N, P, K]."""
    decisions = layout.decisions(contexts.history.action.shape[1])[at]

    def one(context: Contexts) -> Array:
        queries = jnp.broadcast_to(context.query, (context.history.action.shape[0] + 1, *context.query.shape[1:]))
        return jax.nn.softmax(policy(layout.sequence(context.history, queries), None, None)[0][decisions])

    return np.asarray(jax.jit(lambda every: jax.lax.map(one, every, batch_size=50))(contexts))


def agent_probs(agent: Any, contexts: Contexts, at: Array) -> np.ndarray:
    """The same of an exact posterior sampler."""

    def one(context: Contexts) -> Array:
        states = jax.tree.map(lambda leaf: leaf[at], states_along(agent, context.history))
        return jax.vmap(agent.optimal_action_probs)(states)

    return np.asarray(jax.jit(lambda every: jax.lax.map(one, every, batch_size=50))(contexts))


def _row(name: str, row: list[Interval]) -> dict[str, Any]:
    """One agent's regret by size of the pool."""
    mean, low, high = (np.array([getattr(found, part) for found in row]) for part in ("mean", "low", "high"))
    joined = Interval(mean, low, high, row[0].method)
    found = curve(name, "regret", joined, LABELS, GENERAL)
    names = {MEMORY: "posterior over the pool", GENERAL: "posterior, uniform prior"}
    return {**found, "label": names.get(name, found["label"])}


def _checks(regrets: dict[str, dict[str, list[Interval]]]) -> list[dict[str, Any]]:
    """With the smallest pool the model is near M_D at home; with the largest it is near G abroad."""
    rows = []
    for place, index, name, limit in (("pool", 0, GENERAL, 0.5), ("fresh", -1, GENERAL, 1.3)):
        model, other = regrets[place][MODEL][index], float(regrets[place][name][index].mean)
        measured = {part: float(getattr(model, part)) / other for part in ("mean", "low", "high")}
        what = f"regret in {place} tasks, {'smallest' if index == 0 else 'largest'} pool, DPT / {name} posterior"
        rows.append({"what": what, "measured": measured, "target": f"<= {limit:g}", "ok": measured["mean"] <= limit})
    return rows


def _claim(settings: DiversitySettings, regrets: dict[str, dict[str, list[Interval]]]) -> str:
    small, large = (
        f"{regrets['pool'][MODEL][i].mean:.2f} in its pool and {regrets['fresh'][MODEL][i].mean:.2f} in fresh tasks"
        for i in (0, -1)
    )
    return (
        f"Pretrained on {settings.sizes[0]} tasks the model loses {small} after {settings.env.horizon} pulls, "
        f"on {settings.sizes[-1]} tasks {large}; Thompson sampling {regrets['fresh'][GENERAL][0].mean:.2f}."
    )
