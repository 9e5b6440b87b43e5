"""Decision-Pretrained Transformer on Dark Room (Lee et al. 2023, section 5.2, figure 4).

Contexts are independent transitions from 80 of the 100 goals of a 10 x 10 room; the label is the optimal action at a
query state. Frozen, the model plays 100-step episodes in rooms with the 20 other goals: on a given context (offline)
and from nothing, its context being the last episode (online, as the released code does). Published, held-out goals:
offline 61.5 on random and 87.0 on expert data, online 61 at episode 5 and 65 at episode 10; optimum 90.9. The exact
posterior with the same one-episode memory loses as much at first: forgetting, not the model, makes the curve slow.

Departures of preset ``cpu``, each with its reason:

- A query at every prefix (layout ``pairs``), so that one context trains T + 1 decisions: the loss leaves the prior's
  after 500 steps, where one query a context (``query-first``, the paper's) had not after 4 000.
- Cells enter as raw numbers, as in the paper's code: one-hot, 80 goals are learned by heart, unseen ones get 25 to 50.
- Five of eight contexts are rollouts (``source``): two episodes of exact posterior sampling, of the optimum with noise
  that fades, or of the optimum, queried at the state acted upon next or at any other. Trained on independent
  transitions only, the model met walks for the first time in its evaluation: expert data 71.2 [53.4, 88.9], episode 5
  28.5 [15.0, 42.1].
- Offline, 25 contexts a goal instead of 5: with 5, whether the goal is in the data alone moves the mean by 4.4.

Measured, preset cpu, seed 0 (2026-11-26, two CPU cores, 7 min 12 s; 95 % intervals over the 20 goals). Offline: 58.2
[53.9, 62.5] on random and 86.3 [76.7, 96.0] on expert data (the given episodes are
other draws since then). Online, five rollouts a goal, the same draws for all:

    episode                           1     2     3     5    10    20
    DPT, last episode               0.5  13.5  28.1  47.9  64.3  73.2
    DPT, rolling context           16.9  37.8  42.7  56.1  67.0  74.1
    exact posterior, last           0.7  22.7  37.6  54.7  67.9  74.2
    exact posterior, window        15.8  35.0  47.3  63.0  73.1  80.2
    exact posterior, steps, held   40.4  78.9  90.9  90.9  90.9  90.9
    (exact posterior, steps        15.8  35.0  44.6  63.1  81.2  90.9)

The exact posteriors (measured 2026-11-30) have the memory of one context rule each, and draw a goal at every step as a
model does that samples from its prediction. The held one is the best there is: all steps so far, and one goal that is
played until it is refuted. At 20 rollouts a goal the window has 59.2, 71.6 and 79.7 in episodes 5, 10 and 20.
The intervals of single episodes are wide (47.9 [32.6, 63.3]). Over all 20 the rolling context (the last episode and the
one under way) is above the last episode alone by 5.7 [2.3, 9.0]. It remembers one whole episode, so cells searched
before are searched again; longer windows (400, 1 000; three rollouts) gave no more to a model trained on two episodes.
Half-way, at step 1 750 (2026-11-24), the rolling context had 57.4, 73.7 and 79.9 in episodes 5, 10 and 20: within the
intervals, no better. A uniform walk for the fading optimum (1 250 steps) was worse: 43.3 [26.6, 60.0] in episode 5.
"""

from icrl.core.registry import experiments
from icrl.envs.dark_room import DarkRoomCorner
from icrl.models.transformer import TransformerConfig
from icrl.recipes.checks import episode_return, gain, given_return
from icrl.recipes.parts import GRID, INDEPENDENT, LAST_EPISODE, ROLLING, DataSettings, Evaluation, Prediction
from icrl.recipes.pretraining import RecipeExperiment
from icrl.recipes.published import LEE_2023, SMOKE, sizes
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings

IDEALS = (  # of the last episode; of a rolling context, which holds the one under way too; the best there is
    "posterior-task@memory=last",
    "posterior-task@memory=window",
    "posterior-task@memory=steps@drawn=held",
)
BASE = Recipe(
    env=DarkRoomCorner(),
    data=DataSettings(
        source=(*3 * (INDEPENDENT, "posterior-task"), "annealed-oracle", "oracle"),
        context_steps=200,
        elsewhere=0.5,
        train_fraction=0.8,
        split="lee-2023",
    ),
    prediction=Prediction(one_hot=False),
    backbone=TransformerConfig(width=32, num_layers=2, num_heads=2, positions="none", init_std=0.2),
    fit=FitSettings(train_steps=3000, batch_size=32, learning_rate=3e-3, save_every=250),
    evaluation=Evaluation(
        rollouts_per_task=5,
        eval_steps=2000,
        context=(LAST_EPISODE, ROLLING),
        tune=GRID,
        competitors=(*IDEALS, "ucb-vi", "q-learning", "uniform", "oracle"),
        given=(INDEPENDENT, "oracle"),
    ),
)


@experiments.register("dpt-darkroom", paper="Lee et al. 2023")
class DPTDarkRoom(RecipeExperiment):
    """DPT on the 10 x 10 Dark Room, goals held out."""

    title = "Decision-Pretrained Transformer on Dark Room"
    presets = sizes(
        BASE,
        smoke={
            **SMOKE, "size": 4, "horizon": 12, "positions": "none", "train_steps": 40, "warmup_steps": 10,
            "source": (INDEPENDENT, "posterior-task"), "context_steps": 24, "skip_episodes": 1, "split": "son-2025",
            "eval_steps": 72, "window": 36, "rollouts_per_task": 2, "given_contexts": 2,
        },
        cpu={},
        paper={
            **LEE_2023, "learning_rate": 1e-3, "log_every": 1000, "save_every": 5000, "layout": "query-first",
            "train_steps": 125_000, "pool": 80_000,  # 100 epochs
            "source": (INDEPENDENT,), "context_steps": 100, "eval_steps": 4000, "context": (LAST_EPISODE,),
            "given_contexts": 5,
        },
    )  # fmt: skip
    published = (
        {"what": "DPT offline, random data", "value": "61.5 +- 4.2", "where": "Lee et al. 2023, figure 4a"},
        {"what": "DPT offline, expert data", "value": "87.0 +- 1.0", "where": "Lee et al. 2023, figure 4a"},
        {"what": "DPT online, episode 5 / 10 / 40", "value": "61 / 65 / 76", "where": "Lee et al. 2023, figure 4b"},
    )
    promises = (
        given_return(INDEPENDENT, 55.0, 66.0),
        given_return("oracle", 85.0, 91.0),
        episode_return(5, 45.0, 65.0),
        gain("DPT, rolling", "DPT, last episode"),
    )
