"""Algorithm Distillation on Dark Room (Laskin et al. 2022; grid, split and PPO source of Son et al. 2025).

A causal transformer learns to predict what PPO does next from several episodes of what PPO did; frozen, it has to
improve by itself over the episodes of rooms with goals it never saw.

Measured, preset cpu, seed 0 (2026-11-21, two CPU cores, 3 minutes after 4 of collection; 8 held-out goals, 25 rollouts
in each): the return of an episode goes from 1.33 in the first to 14.8 [11.4, 18.3] in the 50th, mean over all 50 of
them 10.0; optimum 17.2, the source's end 16.3 (on training goals).

With ``--positions rotary --attention-window 160 --context-steps 160 --window 80 --context rolling,stream`` (2026-11-30,
two CPU cores beside other work): mean over 50 episodes 10.7 where the window is read afresh each episode, 10.9 where
nothing is read twice; 50th episode 14.8 [10.9, 17.4] and 15.3 [11.5, 17.7].

Preset paper, the first of its five training seeds, products in bfloat16 (2026-11-26, one NVIDIA H200, 5 minutes beside
another run; ``--train-seeds 1 --matmuls bfloat16``): 1.42 in the first episode, 15.2 [13.4, 16.9] in the 1 000th, mean
over all 15.0; Q-learning from scratch 16.3 from its 200th episode on, and behind AD until its 100th.
"""

from icrl.core.registry import experiments
from icrl.envs.dark_room import DarkRoom
from icrl.models.transformer import TransformerConfig
from icrl.recipes.checks import improvement
from icrl.recipes.parts import GRID, HISTORIES, DataSettings, Evaluation, Prediction
from icrl.recipes.pretraining import RecipeExperiment
from icrl.recipes.published import SMOKE, SON_2025, sizes
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings

BASE = Recipe(
    env=DarkRoom(),
    data=DataSettings(
        data=HISTORIES,
        source=("ppo",),
        streams=True,
        train_tasks=81,
        histories=100,
        history_steps=1000,
        context_steps=80,
    ),
    prediction=Prediction(objective="ad"),
    backbone=TransformerConfig(width=32, num_layers=2, num_heads=2, init_std=0.1),
    fit=FitSettings(train_steps=5000, batch_size=32, learning_rate=5e-3),
    evaluation=Evaluation(
        eval_steps=1000, rollouts_per_task=25, tune=GRID, competitors=("q-learning", "uniform", "oracle")
    ),
)


@experiments.register("ad-darkroom", paper="Laskin et al. 2022; Son et al. 2025")
class ADDarkRoom(RecipeExperiment):
    """AD on the 9 x 9 Dark Room, 20 steps an episode, goals held out."""

    title = "Algorithm Distillation on Dark Room"
    presets = sizes(
        BASE,
        smoke={
            **SMOKE, "size": 4, "horizon": 6, "train_fraction": 0.75, "train_steps": 40, "warmup_steps": 10,
            "source": ("q-learning",), "streams": False, "histories": 8, "history_steps": 120, "context_steps": 24,
            "eval_steps": 60, "rollouts_per_task": 4,
        },
        cpu={},
        paper={**SON_2025, "eval_steps": 20_000},
    )  # fmt: skip
    published = (
        {
            "what": "AD, episode 1 / 25 / 50",
            "value": "0.65 / 9.98 / 13.68",
            "where": "Son et al. 2025, figure (5 splits)",
        },
        {"what": "AD after 1 000 episodes", "value": "14.1 +- 0.7", "where": "Laskin et al. 2022, figure"},
    )
    promises = (improvement,)
