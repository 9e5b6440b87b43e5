"""What sequence models do behind the length that they were trained on: contexts of T steps, lives of 8 T.

DPT on Gaussian bandits, for attention without positions and for recurrent models, each with all of its past (``whole``)
and with the latest T steps of it (``rolling``). Lu et al. 2023 report that S5 holds from 16 to 32 trials where a GRU
falls; that Mamba collapses behind its training length is reported of language models.

Measured, preset cpu, seed 0, one training seed (2026-11-30, two cores, 3 min 31 s; T = 50, 200 tasks), regret a
step in the stretches to T, 2 T, 4 T and 8 T with all of the past: GRU .101, .055, .051, .051; transformer .117, .079,
.076, .075; Mamba-2 .116, .082, .082, .082; S5 .207, .173, .175, .172; exact posterior sampling .093, .029, .017, .010.
Nobody falls behind T, and nobody gets better there: what is lost against the posterior grows from .03 to .21 nats for
GRU, .06 to .32, .04 to .36, .21 to 1.08. Forgetting (rolling) is worse for all but S5, which learned least here.

``--model transformer --vary positions=none,rotary,learned`` asks what positions do, ``--model s5 --vary
clip_eigs=true,false`` what it is worth to hold eigenvalues below zero. Trials of RL^2: ``icrl run rl2 --env
ProjectedCartPole-v0 --context-steps 800 --eval-steps 6400 --context whole,rolling``.
"""

import itertools
from typing import Any

import numpy as np

from icrl.core.errors import require
from icrl.core.registry import experiments, models
from icrl.core.tasks import TaskSet
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.evaluation.offline import ideal_cross_entropy, model_cross_entropy, recorded_contexts
from icrl.evaluation.statistics import interval
from icrl.models.transformer import TransformerConfig
from icrl.recipes.agent_names import agent_of
from icrl.recipes.checks import Measured
from icrl.recipes.parts import ROLLING, WHOLE, DataSettings, Evaluation
from icrl.recipes.pretraining import Groups, RecipeExperiment
from icrl.recipes.published import SMOKE, sizes
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import Run
from icrl.training.step import FitSettings

TIMES = (1, 2, 4, 8)  # ends of the stretches, in training lengths

BASE = Recipe(
    env=GaussianBandit(horizon=400),
    data=DataSettings(context_steps=50),
    backbone=TransformerConfig(width=32, num_layers=2, num_heads=1, positions="none", init_std=0.2),
    fit=FitSettings(train_steps=1500, batch_size=32, learning_rate=3e-3, save_every=1500),
    evaluation=Evaluation(
        eval_tasks=200, eval_steps=400, context=(WHOLE, ROLLING), competitors=("posterior-gaussian", "uniform")
    ),
    vary=("model=transformer,s5,mamba2,gru",),
)


def regrets(recipe: Recipe, run: Run, groups: Groups, measured: Measured) -> dict[str, Any]:
    """Regret a step of everybody, by stretch of the evaluation."""
    del run, groups
    ends = _ends(recipe, recipe.eval_steps)
    rows: list[list[Any]] = []
    for name, curves in measured.items():
        total = np.concatenate([np.zeros_like(curves["regret"][..., :1]), curves["regret"]], axis=-1)
        means = ((total[..., high] - total[..., low]) / (high - low) for low, high in itertools.pairwise(ends))
        rows.append([name, *(interval(each).band() for each in means)])
    note = "All agents on the same tasks and draws."
    return _table(recipe, "Regret a step", "agent", ends, rows, note)


def losses(recipe: Recipe, run: Run, groups: Groups, measured: Measured) -> dict[str, Any]:
    """Cross-entropy above the exact posterior's on contexts that go on behind T, by stretch of them."""
    del measured
    env, steps = recipe.env, recipe.eval_steps
    tasks = TaskSet.draw(env, run.seed, "offline", recipe.evaluation.offline_tasks)
    source = agent_of(env, recipe.sources[0], steps)
    contexts = recorded_contexts(env, tasks, source, steps, run.seed).contexts
    ideal = ideal_cross_entropy(agent_of(env, env.spec.exact_sampler), contexts, np.arange(steps + 1))
    ends, rows = _ends(recipe, steps), []
    for label, (variant, policies) in groups.items():
        found = [model_cross_entropy(variant.objective(), policy, contexts) for policy in policies]
        above = np.stack(found) - ideal
        rows.append([label, *(interval(above[..., a:b].mean(-1)).band() for a, b in itertools.pairwise(ends))])
    note = "Of models with all of their past; contexts of the same source and of other tasks than in training."
    return _table(recipe, "Nats above the exact posterior", "model", ends, rows, note)


def _ends(recipe: Recipe, steps: int) -> list[int]:
    """0, T, 2 T, 4 T and 8 T, as far as there are as many ``steps``."""
    return [0, *(times * recipe.context_steps for times in TIMES if times * recipe.context_steps <= steps)]


def _table(recipe: Recipe, what: str, who: str, ends: list[int], rows: list[Any], note: str) -> dict[str, Any]:
    steps = recipe.context_steps
    columns = [who, *(f"{low // steps} to {high // steps} T" for low, high in itertools.pairwise(ends))]
    return {"title": f"{what}, T = {steps}", "columns": columns, "rows": rows, "note": note}


@experiments.register("beyond-length", paper="after Lu et al. 2023, section 4.3")
class BeyondLength(RecipeExperiment):
    """Contexts that go on behind the length of training."""

    title = "Behind the training length"
    presets = sizes(
        BASE,
        smoke={
            **SMOKE, "positions": "none", "horizon": 40, "context_steps": 10, "eval_steps": 40, "eval_tasks": 20,
            "offline_tasks": 20, "vary": ("model=transformer,s5",),
        },
        cpu={},
        paper={
            "horizon": 4000, "context_steps": 500, "eval_steps": 4000, "width": 64, "num_layers": 4, "num_heads": 4,
            "train_steps": 100_000, "batch_size": 64, "log_every": 500, "save_every": 5000, "eval_tasks": 1000,
            "train_seeds": 5,
        },
    )  # fmt: skip
    labels = {f"model {name}": name for name in models}
    extra_tables = (regrets, losses)
    predicts = True

    @classmethod
    def validate(cls, settings: Recipe, seed: int) -> None:
        """Raise ``InputError`` for what has no exact posterior, or no life behind the training length."""
        super().validate(settings, seed)
        bandit = settings.env.spec.is_stationary_bandit and bool(settings.env.spec.exact_sampler)
        require(bandit, "env", settings.env.name, "a bandit whose exact posterior is known")
        require(settings.needs_labels, "objective", settings.prediction.objective, "dpt")
        longer = settings.eval_steps >= 2 * settings.context_steps
        require(longer, "eval_steps", settings.eval_steps, f"at least {2 * settings.context_steps}, twice the context")
