"""Algorithm distillation in any environment (after Laskin et al. 2022): ``icrl run ad --env DeepSea-v0 --source psrl``.

Histories of ``--source`` are collected in training tasks, filtered (``--filter``), and a sequence model is pretrained
to predict the source's next action in windows that cross the borders of episodes; frozen, it improves by itself.

``--data FOLDER`` of ``icrl import`` trains on histories that somebody else recorded. Where ``--env`` does not name an
environment with their spaces nobody plays: the report tells the loss on histories that are held out.

Measured, preset cpu, seed 0 (2026-11-29, 8 min 16 s of CPU on a loaded machine with two cores), ``--env
BernoulliBandit-v0 --source thompson-bernoulli --filter lhf``: regret(200) in 100 unseen tasks, AD 23.6 [19.8, 27.3],
its source 10.8 [9.7, 11.9], Gittins 6.75, UCB 9.28, uniform play 64.3. The training loss ends at .017 nats where the
source's own draws cost .535 +- .028 (100 tasks): 160 histories were learned by heart.

``--env DeepSea-v0 --source psrl`` (2026-11-29, seed 0, about 24 minutes of CPU, most of it PSRL's gamma variables):
regret(1000) in 100 unseen tasks, 100 episodes, UCB-VI 29.9, PSRL 94.2 [93.6, 94.8], AD 97.6 [97.1, 98.1], uniform play
99.4. The source itself earns .20 of .99 an episode in the last tenth of its histories: there is little to distill.
"""

from typing import ClassVar

from icrl.core.registry import experiments
from icrl.envs.dark_room import DarkRoom
from icrl.models.transformer import TransformerConfig
from icrl.recipes.parts import HISTORIES, DataSettings, Evaluation, Prediction
from icrl.recipes.pretraining import RecipeExperiment
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings


@experiments.register("ad", paper="Laskin et al. 2022")
class ADAnywhere(RecipeExperiment):
    """AD in the environment of ``--env``."""

    title = "Algorithm Distillation"
    presets: ClassVar[dict[str, Recipe]] = {
        "smoke": Recipe(
            env=DarkRoom(size=4, horizon=6),
            data=DataSettings(
                data=HISTORIES, train_tasks=6, histories=4, history_steps=60, context_steps=24, train_fraction=0.75
            ),
            prediction=Prediction(objective="ad"),
            backbone=TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.2),
            fit=FitSettings(
                train_steps=20, batch_size=16, learning_rate=3e-3, warmup_steps=5, log_every=10, save_every=20
            ),
            evaluation=Evaluation(eval_tasks=20, offline_tasks=20, competitors=("uniform", "oracle")),
        ),
        "cpu": Recipe(
            env=DarkRoom(),
            data=DataSettings(data=HISTORIES, most_steps=200, train_tasks=40),
            prediction=Prediction(objective="ad"),
            backbone=TransformerConfig(width=32, num_layers=2, num_heads=2, init_std=0.1),
            fit=FitSettings(train_steps=3000, batch_size=32, learning_rate=5e-3),
            evaluation=Evaluation(eval_tasks=100),
        ),
        "paper": Recipe(
            env=DarkRoom(),
            data=DataSettings(data=HISTORIES, train_tasks=2000, histories=100),
            prediction=Prediction(objective="ad"),
            backbone=TransformerConfig(
                width=32, num_layers=4, num_heads=4, norm="rms", positions="rotary", mlp="swiglu", final_norm=False
            ),
            fit=FitSettings(
                train_steps=50_000, batch_size=512, learning_rate=1e-2, warmup_steps=0, weight_decay=0.01,
                log_every=500, save_every=5000,
            ),
            train_seeds=5,
        ),
    }  # fmt: skip
