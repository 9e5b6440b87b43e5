"""Transformers as Decision Makers on linear bandits with shown features (Lin, Bai, Mei 2023, section 5, experiment 1).

Two tokens a step, the first of which shows the features of all arms, fresh in every task; the model imitates LinUCB.
Published, regret(200) with d = 5, K = 10, noise 1.5: TF 39.6 +- 1.6, LinUCB 32.8 +- 1.2, Thompson sampling 51.6 +- .9,
the empirical mean 56.9 +- 2.7.

Measured, preset cpu, seed 0 (2026-11-26, two CPU cores, 6 minutes; five arms in two dimensions, 100 pulls): the model
7.82 [7.43, 8.22], LinUCB 4.96, LinTS 4.70, the empirical mean 8.92 on the same 2 000 tasks. It is 1.58 times LinUCB
where the published one is 1.21 times. The validation loss fell, ever more slowly, until the schedule ended; longer
training has not been tried.
"""

from typing import Any

from icrl.core.registry import experiments
from icrl.envs.shown_linear_bandit import ShownLinearBandit
from icrl.models.transformer import TransformerConfig
from icrl.recipes.tadm_pipeline import TADMExperiment, TADMSettings
from icrl.training.step import FitSettings

SHARED: dict[str, Any] = {
    "variants": ("imitate:linucb",),
    "competitors": ("linucb", "lin-ts", "empirical-mean", "uniform", "oracle"),
}


@experiments.register("tadm-linear", paper="Lin et al. 2023")
class TADMLinear(TADMExperiment):
    """Imitation of LinUCB where the arms are shown."""

    title = "Transformers as Decision Makers on linear bandits"
    presets = {
        "smoke": TADMSettings(
            **SHARED,
            env=ShownLinearBandit(num_arms=3, dim=2, horizon=10),
            backbone=TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.2),
            fit=FitSettings(
                train_steps=20, batch_size=16, learning_rate=3e-3, warmup_steps=5, log_every=10, save_every=20
            ),
            eval_tasks=50,
        ),
        "cpu": TADMSettings(
            **SHARED,
            env=ShownLinearBandit(num_arms=5, dim=2, horizon=100, noise_std=0.5),
            backbone=TransformerConfig(width=64, num_layers=2, num_heads=2, positions="none", init_std=0.1),
            fit=FitSettings(train_steps=3000, batch_size=64, learning_rate=2e-3),
            eval_tasks=2000,
        ),
        "paper": TADMSettings(
            **SHARED,
            env=ShownLinearBandit(horizon=200),
            backbone=TransformerConfig(
                width=32, num_layers=8, num_heads=4, attention="relu", norm_first=False, final_norm=False
            ),
            fit=FitSettings(
                train_steps=1_250_000,  # 2 000 epochs of 80 000 contexts
                batch_size=128,
                learning_rate=1e-3,
                schedule="constant",
                warmup_steps=0,
                log_every=1000,
                save_every=20_000,
            ),
            train_seeds=5,
            eval_tasks=4000,
        ),
    }
    published = (
        {"what": "TF, regret(200)", "value": "39.6 +- 1.6", "where": "Lin et al. 2023, figure of experiment 1"},
        {"what": "LinUCB, regret(200)", "value": "32.8 +- 1.2", "where": "Lin et al. 2023, figure of experiment 1"},
        {"what": "TS, regret(200)", "value": "51.6 +- 0.9", "where": "Lin et al. 2023, figure of experiment 1"},
    )
    max_ratio = {("imitate:linucb", "linucb"): 1.5, ("imitate:linucb", "empirical-mean"): 0.9}
