"""Algorithm Distillation on Dark Room (Laskin et al. 2022; grid, split and PPO source of Son et al. 2025).

A causal transformer learns to predict what PPO does next from several episodes of what PPO did; frozen, it has to
improve by itself over the episodes of rooms with goals it never saw.

Measured, preset cpu, seed 0 (2026-11-21, two CPU cores, 3 minutes after 4 of collection; 8 held-out goals, 25 lives in
each): the return of an episode goes from 1.33 in the first to 14.8 [11.4, 18.3] in the 50th, mean over the 50 episodes
10.0; optimum 17.2, the source's end 16.3 (on training goals).

Preset paper, the first of its five training seeds, products in bfloat16 (2026-11-26, one NVIDIA H200, 5 minutes beside
another run; ``--train-seeds 1 --matmuls bfloat16``): 1.42 in the first episode, 15.2 [13.4, 16.9] in the 1 000th, mean
over all 15.0; Q-learning from scratch 16.3 from its 200th episode on, and behind AD until its 100th.
"""

from typing import Any

from icrl.core.registry import experiments
from icrl.envs.dark_room import DarkRoom
from icrl.models.transformer import TransformerConfig
from icrl.recipes.distillation_pipeline import DistillationExperiment
from icrl.recipes.distillation_settings import PAPER, DistillationSettings
from icrl.training.step import FitSettings

SHARED: dict[str, Any] = {"competitors": ("q-learning", "uniform", "oracle")}


@experiments.register("ad-darkroom", paper="Laskin et al. 2022; Son et al. 2025")
class ADDarkRoom(DistillationExperiment):
    """AD on the 9 x 9 Dark Room, 20 steps an episode, goals held out."""

    title = "Algorithm Distillation on Dark Room"
    presets = {
        "smoke": DistillationSettings(
            **SHARED,
            env=DarkRoom(size=4, horizon=6),
            train_fraction=0.75,
            backbone=TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.2),
            fit=FitSettings(
                train_steps=40, batch_size=16, learning_rate=3e-3, warmup_steps=10, log_every=10, save_every=20
            ),
            source="q-learning",
            streams=False,
            histories=8,
            history_steps=120,
            window=24,
            eval_episodes=10,
            eval_lives=4,
        ),
        "cpu": DistillationSettings(
            **SHARED,
            env=DarkRoom(),
            backbone=TransformerConfig(width=32, num_layers=2, num_heads=2, init_std=0.1),
            fit=FitSettings(train_steps=5000, batch_size=32, learning_rate=5e-3),
        ),
        "paper": DistillationSettings(**SHARED, **PAPER, env=DarkRoom(), eval_episodes=1000),
    }
    published = (
        {
            "what": "AD, episode 1 / 25 / 50",
            "value": "0.65 / 9.98 / 13.68",
            "where": "Son et al. 2025, figure (5 splits)",
        },
        {"what": "AD after 1 000 episodes", "value": "14.1 +- 0.7", "where": "Laskin et al. 2022, figure"},
    )
