"""RL^2 in any environment (after Duan et al. 2016, Wang et al. 2016): ``icrl run rl2 --env MemoryLen-v0 --model s5``.

A policy with memory is trained by PPO on the return of whole trials, frozen, and compared in held-out tasks with every
registered agent that fits. A trial is ``--context-steps`` steps in one task, its memory ends with it.

Measured, preset cpu, seed 0, one training seed (2026-11-30, two cores with much else to do; minutes are of CPU time).
Reward of a trial, in 200 rollouts where no number is given:

- ``--train-steps 2500`` (8 minutes, at the 0.19 s a step that were timed), five Bernoulli arms, 100 pulls, 1 000
  tasks: 76.6 [75.5, 77.6], Gittins 78.2, UCB 76.5, Thompson sampling 75.2. Duan et al. have 78.7, Gittins 78.3 (table
  1). For 35 pulls it is Gittins.
- ``--env RepeatPrevious-v0 --vary model=s5,mlp --train-steps 1500`` (2 minutes a model): S5 .994 [.991, .996], without
  memory -.50. ``--env RepeatFirst-v0``, as long: S5 .999, without memory .49: its last action tells it the card.
- ``--env MemoryLen-v0 --length 64 --train-steps 800``: .990 [.963, 1.01].
- ``--env TMaze-v0 --length 50 --train-steps 600``: 1.00, the optimum; without memory -1.01, nothing learned.
- ``--env Tiger-v0 --train-steps 600`` (50 s): 18.7 [10.9, 24.7] in 20 steps, belief-optimal play 20.7 [14.0, 25.9].
"""

from typing import ClassVar

from icrl.core.registry import experiments
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.models.gru import GRU
from icrl.models.s5 import S5Config
from icrl.recipes.parts import Evaluation, Prediction
from icrl.recipes.pretraining import RecipeExperiment
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings


@experiments.register("rl2", paper="Duan et al. 2016; Wang et al. 2016")
class RL2Anywhere(RecipeExperiment):
    """RL^2 in the environment of ``--env``."""

    title = "RL^2"
    presets: ClassVar[dict[str, Recipe]] = {
        "smoke": Recipe(
            env=BernoulliBandit(num_arms=3, horizon=20),
            model="s5",
            backbone=S5Config(width=16, num_layers=1, state_size=16),
            prediction=Prediction(objective="rl2", layout="steps", num_epochs=2, minibatches=2),
            fit=FitSettings(
                train_steps=20, batch_size=16, learning_rate=1e-3, warmup_steps=0, log_every=10, save_every=20,
                weight_decay=0.0,
            ),
            evaluation=Evaluation(eval_tasks=20, competitors=("uniform", "oracle")),
        ),
        "cpu": Recipe(
            env=BernoulliBandit(horizon=100),
            model="s5",
            backbone=S5Config(width=64, num_layers=2, state_size=64),
            prediction=Prediction(objective="rl2", layout="steps"),
            fit=FitSettings(
                train_steps=1000, batch_size=64, learning_rate=1e-3, warmup_steps=20, weight_decay=0.0, log_every=10,
            ),
        ),
        "paper": Recipe(
            env=BernoulliBandit(horizon=100),
            model="gru",
            backbone=GRU.Config(width=256, num_layers=1),
            prediction=Prediction(objective="rl2", layout="steps", gae_lambda=0.3),
            fit=FitSettings(
                train_steps=5000, batch_size=2048, learning_rate=3e-4, weight_decay=0.0, save_every=500,
            ),
            evaluation=Evaluation(eval_tasks=1000),
            train_seeds=5,
        ),
    }  # fmt: skip
