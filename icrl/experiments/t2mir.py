"""T2MIR: a mixture of experts against dense models of its size (Wu et al. 2025), with AD on Point-Robot or Dark Room.

In the last layer of a transformer stand experts in place of the MLP, one branch routed by token and one by task. Beside
it play two dense twins, which differ in the hidden width of that one MLP: the one has as many parameters as a token
meets in the mixture (equal active), the other as many as there are (equal total). So it is the mixture that is judged,
and not its size. No result is promised: the published tables were not to be had.

``--env DarkRoom-v0`` is the other world; ``--width``, ``--token-experts``, ``--model`` and the rest make other
mixtures, which the twins follow. What the released code does otherwise stands in ``icrl/models/layers/moe.py``;
besides, its head is without noise (``--action-head mse``). As there on Point-Robot, contexts are four episodes of a
task in order of return, in training and when acting; its Dark Room's are consecutive steps (``--context-order time``).
A batch of the mixture is made of pairs of contexts of one task, as its contrastive loss wants them; those of the twins
are not paired.

Measured, preset cpu, seed 0 (2026-11-30, two shared CPU cores, 17 minutes beside other work; 5 training seeds, 100
unseen goals, episodes of 10 steps). Parameters, active and in all: 9 528 and 17 768; 9 519; 17 769.

- Mean return of the 1st, 5th and 20th episode: mixture -7.78, -5.26, -3.46 [-3.90, -3.06]; dense, equal active -7.81,
  -5.44, -3.64 [-4.09, -3.08]; dense, equal total -7.79, -5.10, -3.37 [-3.73, -3.02]; uniform play -8.13 in the 20th,
  the optimum -2.42. All improve, the last four episodes over the first four by 3.23 [3.00, 3.45], 3.16 [2.90, 3.48]
  and 3.32 [3.06, 3.57].
- Paired, mean of all 20 episodes: the mixture less its twin of equal active parameters .17 [-.26, .48], less that of
  equal total parameters -.15 [-.33, .23]; of the last four .19 [-.41, .48] and -.12 [-.34, .14]. No difference shows.
- By time (``--context-order time``, 8.0 minutes of CPU, same goals and seeds) the three reach -6.60 [-7.25, -5.99],
  -6.72 [-7.56, -5.81] and -6.65 [-7.36, -5.98] in the 20th episode: the order is worth far more than the experts. The
  differences over all episodes were .08 [-.36, .82] and -.001 [-.33, .68]. Most of it comes from training: the mixture
  trained on sorted contexts that acts on its latest episodes by time reaches -3.83 [-4.33, -3.38], over all episodes
  .27 [.15, .38] less, paired, than on sorted ones.
- Nor is one shown with DPT (600 steps, 3.7 minutes of CPU): -.11 [-.94, 1.64] and -.08 [-1.53, 1.01] over all episodes.
- Nor is one shown on a Dark Room of 5 x 5, by time (3.9 minutes, its settings in docs/papers/t2mir.md): all episodes,
  -.30 [-1.49, .20] and .004 [-.37, .29].
- The first mixture's gates differ less between two contexts of a goal than between goals (total variation .14 and .22
  in the task-wise branch, .12 and .25 in the token-wise one; 8 goals of training); one of the task-wise experts has
  three quarters of all gates.
"""

import dataclasses
from typing import Any

from icrl.core.errors import require
from icrl.core.registry import experiments
from icrl.envs.point_robot import PointRobot
from icrl.evaluation.statistics import paired_difference
from icrl.models._sizes import ACTIVE, TOTAL, dense_twin
from icrl.models.layers.feed_forward import FeedForwardConfig
from icrl.models.layers.moe import MoEConfig
from icrl.models.transformer import TransformerConfig
from icrl.recipes.checks import Measured, improvement, returns_of
from icrl.recipes.held_out import Groups
from icrl.recipes.parts import BY_RETURN, HISTORIES, DataSettings, Evaluation, Prediction
from icrl.recipes.pretraining import RecipeExperiment
from icrl.recipes.published import SMOKE, sizes
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import Run
from icrl.training.step import FitSettings

MIXTURE = "mixture of experts"
TWINS = {"dense, equal active": ACTIVE, "dense, equal total": TOTAL}
BASE = Recipe(
    env=PointRobot(horizon=10),
    data=DataSettings(
        data=HISTORIES, train_tasks=400, histories=2, history_steps=200, context_steps=40, context_order=BY_RETURN
    ),
    prediction=Prediction(objective="ad"),
    backbone=TransformerConfig(
        width=16, num_layers=2, num_heads=2, init_std=0.2, mlp="leaky-relu", mixture=MoEConfig(moe="token-task")
    ),
    fit=FitSettings(train_steps=2500, batch_size=16, learning_rate=1e-2, warmup_steps=100),
    evaluation=Evaluation(eval_tasks=100, eval_steps=200, competitors=("uniform", "oracle")),
    train_seeds=5,
)


def parameters(recipe: Recipe, run: Run, groups: Groups, measured: Measured) -> dict[str, Any]:
    """How large each variant is."""
    del recipe, run, measured
    rows = [[name, own[0].num_active_parameters, own[0].num_parameters] for name, (_, own) in groups.items()]
    return {
        "title": "Parameters",
        "columns": ["variant", "active", "total"],
        "rows": rows,
        "note": "Active: those that a token meets where the model acts, without the experts that do not serve it and "
        "without what training alone uses, the scale of the router's noise and the matrix of the contrastive loss.",
    }


def differences(recipe: Recipe, run: Run, groups: Groups, measured: Measured) -> dict[str, Any]:
    """Returns of every mixture less those of its twins, on the same tasks and draws; no sign is promised."""
    del run
    rows, fifth = [], max(1, recipe.num_episodes // 5)
    for name in groups:
        for twin in (f"{each}{name.removeprefix(MIXTURE)}" for each in TWINS if name.startswith(MIXTURE)):
            ours, theirs = (returns_of(recipe, measured[each]) for each in (name, twin))
            parts = slice(None), slice(fifth), slice(-fifth, None)
            apart = [paired_difference(ours[..., at].mean(-1), theirs[..., at].mean(-1)).band() for at in parts]
            rows.append([f"{name} - {twin}", *apart])
    first, last = f"episodes 1 to {fifth}", f"the last {fifth}"
    return {
        "title": "Mean return of an episode, the mixture less its dense twins",
        "columns": ["difference", "all episodes", first, last],
        "rows": rows,
        "note": f"Paired on the same tasks and draws, {recipe.train_seeds} training seeds; no sign is promised.",
    }


@experiments.register("t2mir", paper="Wu et al. 2025")
class T2MIR(RecipeExperiment):
    """A mixture of experts beside its dense twins of equal active and of equal total parameters."""

    title = "T2MIR: a mixture of experts beside its dense twins"
    presets = sizes(
        BASE,
        smoke={
            **SMOKE, "horizon": 5, "train_tasks": 8, "histories": 2, "history_steps": 40, "context_steps": 20,
            "eval_steps": 40, "eval_tasks": 10, "train_seeds": 2,
        },
        cpu={},
        paper={  # Point-Robot's; not theirs: the source (SAC's replay), the head, norms and dropout
            "horizon": 20, "train_tasks": 45, "histories": 20, "history_steps": 2000, "context_steps": 80,
            "layout": "interleaved", "width": 128, "num_layers": 3, "num_heads": 8, "init_std": 0.02,
            "balance_weight": 0.1, "train_steps": 100_000, "batch_size": 32,
            "learning_rate": 3e-4, "warmup_steps": 10_000, "weight_decay": 1e-4, "log_every": 500, "save_every": 5000,
            "eval_steps": 600, "eval_tasks": 200,
        },
    )  # fmt: skip
    promises = (improvement,)
    extra_tables = (parameters, differences)

    @classmethod
    def variants(cls, settings: Recipe) -> dict[str, Any]:
        """Every variant of the settings, and its dense twins."""
        found: dict[str, Recipe] = {}
        for label, recipe in super().variants(settings).items():
            name, backbone = f", {label}" if settings.vary else "", recipe.backbone
            moe = backbone.mixture.moe if isinstance(backbone, FeedForwardConfig) else "none"
            require(moe != "none", "moe", moe, "token, task or token-task, of a model with feed-forward layers")
            found[MIXTURE + name] = recipe
            for twin, counted in TWINS.items():
                found[twin + name] = dataclasses.replace(recipe, backbone=dense_twin(backbone, counted))
        return found
