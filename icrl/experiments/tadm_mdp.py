"""UCB-VI imitated in context on small random MDPs: the step that Lin, Bai and Mei 2023 prove (section 4) but never run.

A model is pretrained on whole lives of UCB-VI (the practical bonus) in random tabular MDPs, two tokens a step, to
predict its next action, and then lives through episodes of new MDPs itself; compared with UCB-VI, posterior sampling
and the optimum on the same draws. There is no published number.

Measured, preset cpu, seed 0 (2026-11-26, two CPU cores, 4 minutes; three states, three actions, 25 episodes of four
steps): the model loses 25.2 [24.5, 25.8] in 2 000 MDPs, UCB-VI 21.2, PSRL 28.8, uniform play 88.7. For 30 steps it is
UCB-VI; then it loses a little more at every step, 1.19 [1.15, 1.22] times as much in all.
"""

from icrl.core.registry import experiments
from icrl.envs.random_mdp import RandomMDP
from icrl.models.transformer import TransformerConfig
from icrl.recipes.checks import regret_ratio
from icrl.recipes.parts import GRID, DataSettings, Evaluation, Prediction
from icrl.recipes.pretraining import RecipeExperiment
from icrl.recipes.published import SMOKE, sizes
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings

BASE = Recipe(
    env=RandomMDP(num_states=3, num_actions=3, horizon=4),
    data=DataSettings(source=("ucb-vi",), context_steps=100),
    prediction=Prediction(objective="ad"),
    backbone=TransformerConfig(width=32, num_layers=2, num_heads=1, positions="none", init_std=0.2),
    fit=FitSettings(train_steps=2000, batch_size=64, learning_rate=3e-3),
    evaluation=Evaluation(
        eval_tasks=2000, tune=GRID, competitors=("ucb-vi", "psrl", "q-learning", "uniform", "oracle")
    ),
)
LARGE = {
    "num_states": 10, "num_actions": 5, "horizon": 10, "context_steps": 500, "width": 128, "num_layers": 8,
    "num_heads": 4, "positions": "learned", "init_std": 0.02, "train_steps": 200_000, "batch_size": 128,
    "learning_rate": 3e-4, "log_every": 500, "save_every": 5000, "train_seeds": 5, "eval_tasks": 4000,
}  # fmt: skip


@experiments.register("tadm-mdp", paper="Lin et al. 2023")
class TADMMDP(RecipeExperiment):
    """Imitation of UCB-VI, over many episodes of each MDP."""

    title = "UCB-VI imitated in context on random MDPs"
    presets = sizes(BASE, smoke={**SMOKE, "num_actions": 2, "context_steps": 12, "eval_tasks": 50}, cpu={}, paper=LARGE)
    promises = (regret_ratio("ucb-vi", 1.25), regret_ratio("uniform", 0.6))
