"""Distillation for in-context planning on Dark Room (Son et al. 2025; grid, split and PPO source are theirs)."""

import dataclasses

from icrl.core.registry import experiments
from icrl.experiments.ad_darkroom import BASE as AD
from icrl.recipes.checks import ahead, gain, improvement
from icrl.recipes.parts import NONE, Prediction
from icrl.recipes.pretraining import UNPLANNED, RecipeExperiment
from icrl.recipes.published import SMOKE, SON_2025, sizes

BASE = dataclasses.replace(
    AD,
    prediction=Prediction(objective="dicp", layout="outcomes"),
    evaluation=dataclasses.replace(AD.evaluation, rollouts_per_task=5, tune=NONE),
)
PLANNED = "DICP"
PLAIN = PLANNED + UNPLANNED


@experiments.register("dicp", paper="Son et al. 2025")
class DICPDarkRoom(RecipeExperiment):
    """AD with a model of the world in its head, with and without planning, on the 9 x 9 Dark Room; goals held out."""

    title = "Distillation for in-context planning on Dark Room"
    presets = sizes(
        BASE,
        smoke={
            **SMOKE, "size": 4, "horizon": 6, "train_fraction": 0.75, "train_steps": 40, "warmup_steps": 10,
            "source": ("q-learning",), "streams": False, "histories": 8, "history_steps": 120, "context_steps": 24,
            "eval_steps": 60, "rollouts_per_task": 2, "beam": 4, "plan_horizon": 3,
        },
        cpu={},
        paper={**SON_2025, "eval_steps": 2000, "rollouts_per_task": 25},
    )  # fmt: skip
    published = (
        {
            "what": "DICP-AD, episode 1 / 25 / 50",
            "value": "1.08 / 13.30 / 15.43",
            "where": "Son et al. 2025, figure (5 splits)",
        },
        {
            "what": "AD, episode 1 / 25 / 50",
            "value": "0.65 / 9.98 / 13.68",
            "where": "Son et al. 2025, figure (5 splits)",
        },
        {
            "what": "DICP-AD - AD, episode 50",
            "value": "1.75",
            "where": "Son et al. 2025, figure (means of 5 splits)",
        },
    )
    promises = (improvement, ahead(PLANNED, PLAIN, 50), gain(PLANNED, PLAIN))
