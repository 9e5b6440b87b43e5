"""Distillation for in-context planning on Dark Room (Son et al. 2025; grid, split and PPO source are theirs).

AD with heads for next observation, reward and return-to-go. Once its context is full, a beam search over what it
foretells chooses its actions; the same weights play without it beside that, on the same goals and draws.

Measured, preset cpu, seed 0 (2026-11-30, two CPU cores with much else to do, 10.6 minutes of CPU time; 8 held-out
goals, 5 rollouts in each). Return of an episode, with planning and without:

- in the 5th, the first with a full context, 4.55 and 1.88; in the 10th 9.75 and 4.12; in the 25th 14.3 [6.28, 18.8]
  and 10.8 [6.13, 16.1]; in the 50th 15.8 [11.3, 18.3] and 14.3 [7.95, 17.8]; optimum 17.2, the source's end 16.3;
- paired, the 50th differs by 1.53 [-.64, 5.47] (published 1.75), the mean of all 50 by 3.28 [1.59, 6.36]: 12.6 and 9.34
  (published 11.7 and 9.12);
- the same weights, 15 rollouts in each goal: 14.9 and 14.5 in the 50th, paired .39 [-2.53, 2.05]; mean of all 50 12.2
  and 9.98, paired 2.25 [1.39, 3.35]. So planning learns faster beyond the interval, and the lead published for the 50th
  is not shown: where AD has found a goal by then, little is left to plan for, and where it has not, nothing is foretold
  that a plan could go for.
- Q-learning from scratch has 11.9 in the 50th, mean 8.65.
"""

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
            "what": "AD without planning, episode 1 / 25 / 50",
            "value": "0.65 / 9.98 / 13.68",
            "where": "Son et al. 2025, figure (5 splits)",
        },
        {
            "what": "DICP-AD - AD, episode 50",
            "value": "1.75",
            "where": "Son et al. 2025, figure (means of 5 splits)",
        },
        {
            "what": "DICP-AD / AD, episode 50, in other hands",
            "value": "12.0 / 9.0",
            "where": "Chen et al. 2025, figures (3 runs, smoothing undone)",
        },
    )
    promises = (improvement, ahead(PLANNED, PLAIN, 50), gain(PLANNED, PLAIN))
