"""Learning history filtering on Dark Room: the same AD with and without LHF (Chen et al. 2025, sections 5.1 and 5.3).

PPO's histories are distilled as they are ("clean") and with 30 % of them replaced by a uniform player's ("noisy"),
each once as collected and once filtered by LHF with lambda = 1; the same seeds, windows and held-out goals for all.
The score is E, the mean return over all test episodes relative to no filter. Published, 3 runs: E = 25.1 % on clean
and 90.7 % on noisy data, both on curves smoothed over 20 episodes (undone for clean data: 22.9 %). Their run-to-run
noise is of the order of two returns, as large as many of their differences.

Measured, preset cpu, seed 0 (2026-11-26, two CPU cores, 16 minutes, 5 of them of collection, which takes half of that
since; 5 training seeds, 8 held-out goals, 50 episodes, 9 957 parameters, 1 200 steps of 32 windows): noisy data E = 125
% [47, 202] raw, 96 % [35, 158] smoothed; clean data E = -9 % [-34, 16] raw, -8 % [-30, 14] smoothed: the gain on noisy
data is there, the published one on clean data is not seen. Mean returns 3.99 and 3.64 on clean data, 1.63 and 3.66 on
noisy; UCB-VI from scratch 7.97, the source 13.3.

The report says beside E what the filter did to the data. PPO's histories, made as everybody makes them, are parallel
streams of one learner a task and differ by luck alone: on 8 tasks (2026-11-27) the standard deviation inside a task was
.17 of a mean return of 13.4, which LHF moved by .1 %; on noisy data by 37 %, the uniform player's share going from 30 %
to 3.4 %. So no gain is to be expected on such clean data. Where there is more to choose among, sources share out the
histories of a task; the words behind ``icrl run lhf-darkroom``:

    --vary streams=true,false --vary filter=keep-all,lhf
    --vary source+streams=ppo:true,q-learning:false --vary filter=keep-all,lhf
    --source ppo@learning_rate=1e-4,ppo@learning_rate=3e-4,ppo@learning_rate=1e-3 --vary filter=keep-all,lhf
    --streams false --source q-learning@anneal_steps=200,q-learning@anneal_steps=2000 --vary filter=keep-all,lhf

These are independent learners beside streams, Q-learning beside PPO, three learning rates, and two lengths of learning.
Measured, seed 0 (2026-11-30, ``icrl filter`` behind ``icrl collect``), LHF moves the mean return

- of Q-learning's histories by 8 %: 1.46 to 1.58 in 20 tasks, standard deviation in a task .52;
- of those with two lengths by 50 %: 3.86 to 5.80 in 20 tasks, 3.63;
- of three learning rates by 40 %: 5.67 to 7.95 in 4 tasks, 3.57;
- of independent PPO learners, who hardly learn in 1 000 steps, by 109 %: .20 to .41 in 2 tasks of 8 histories, .22.

What models make of these data has not been run.

The other environments of the paper, with its splits:

    --env DarkRoomPermuted-v0 --train-tasks 108 --context-steps 200
    --env DarkRoomLarge-v0 --train-tasks 202 --context-steps 200
    --env DarkKeyToDoor-v0 --train-tasks 1558 --train-fraction 0.95 --eval-tasks 82 --context-steps 200

Its other scenarios: half of the histories, as its text has it; half of every history, as its appendix has it; and the
full model, as preset cpu has the lightweight one:

    --histories 50
    --history-steps 500
    --num-layers 4 --num-heads 4 --width 32
"""

import dataclasses

from icrl.core.registry import experiments
from icrl.experiments.ad_darkroom import BASE as AD
from icrl.models.transformer import TransformerConfig
from icrl.recipes.checks import enhancements, improvement
from icrl.recipes.pretraining import RecipeExperiment
from icrl.recipes.published import SMOKE, SON_2025, sizes
from icrl.recipes.variants import label_of
from icrl.training.step import FitSettings

BASE = dataclasses.replace(
    AD,
    backbone=TransformerConfig(width=16, num_layers=2, num_heads=2, init_std=0.1),
    fit=FitSettings(train_steps=1200, batch_size=32, learning_rate=1e-2, warmup_steps=100, save_every=1200),
    evaluation=dataclasses.replace(AD.evaluation, competitors=("ucb-vi", "q-learning", "uniform", "oracle")),
    train_seeds=5,
    vary=("noisy_fraction=0.0,0.3", "filter=keep-all,lhf"),
)


@experiments.register("lhf-darkroom", paper="Chen et al. 2025")
class LHFDarkRoom(RecipeExperiment):
    """AD with and without LHF on the 9 x 9 Dark Room."""

    title = "Learning history filtering on Dark Room"
    presets = sizes(
        BASE,
        smoke={
            **SMOKE, "size": 4, "horizon": 6, "train_fraction": 0.75, "warmup_steps": 10, "histories": 10,
            "history_steps": 120, "context_steps": 24, "eval_steps": 60, "rollouts_per_task": 4, "train_seeds": 1,
        },
        cpu={},
        paper={**SON_2025, "eval_steps": 2000},
    )  # fmt: skip
    published = (
        {"what": "E of LHF for AD, clean, smoothed", "value": "25.1 %", "where": "Chen et al. 2025, section 5.1"},
        {"what": "E of LHF for AD, 30 % noisy, smoothed", "value": "90.7 %", "where": "Chen et al. 2025, section 5.3"},
        {
            "what": "AD without filter, mean over 100 episodes, smoothed",
            "value": "7.39",
            "where": "Chen et al. 2025, figures",
        },
    )
    labels = {
        label_of((("noisy_fraction", share), ("filter", rule))): f"{name}, {data}"
        for share, data in (("0.0", "clean"), ("0.3", "noisy"))
        for rule, name in (("keep-all", "AD"), ("lhf", "AD + lhf"))
    }
    promises = (improvement, enhancements(labels))
