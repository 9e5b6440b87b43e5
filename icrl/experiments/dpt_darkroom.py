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
- Five of eight contexts were lived (``sources``): two episodes of exact posterior sampling, of the optimum with noise
  that fades, or of the optimum, asked about the state acted upon next or about any other. Trained on independent
  transitions only, the model met walks for the first time in its evaluation: expert data 71.2 [53.4, 88.9], episode 5
  28.5 [15.0, 42.1].
- Offline, 25 contexts a goal instead of 5: with 5, whether the goal is in the data alone moves the mean by 4.4.

Measured, preset cpu, seed 0 (2026-11-26, two CPU cores, 7 min 12 s; 95 % intervals over the 20 goals). Offline: 58.2
[53.9, 62.5] on random and 86.3 [76.7, 96.0] on expert data. Online, five rollouts a goal, the same draws for all:

    episode                           1     2     3     5    10    20
    DPT, last episode               0.5  13.5  28.1  47.9  64.3  73.2
    DPT, rolling context           16.9  37.8  42.7  56.1  67.0  74.1
    exact posterior, last episode   0.7  22.7  37.6  54.7  67.9  74.2
    exact posterior, all steps     15.8  35.0  44.6  63.1  81.2  90.9

The intervals of single episodes are wide (47.9 [32.6, 63.3]). Over all 20 the rolling context (the last episode and the
one under way) is above the last episode alone by 5.7 [2.3, 9.0]. It remembers one whole episode, so cells searched
before are searched again; longer windows (400, 1 000; three rollouts) gave no more to a model trained on two episodes.
Half-way, at step 1 750 (2026-11-24), the rolling context had 57.4, 73.7 and 79.9 in episodes 5, 10 and 20: within the
intervals, no better. A uniform walk for the fading optimum (1 250 steps) was worse: 43.3 [26.6, 60.0] in episode 5.
"""

import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from icrl.core.registry import agents, experiments
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Contexts
from icrl.datasets.contexts import store_contexts
from icrl.envs.dark_room import DarkRoomCorner
from icrl.evaluation.offline import offline_returns
from icrl.evaluation.online import online_returns
from icrl.evaluation.statistics import Interval, interval
from icrl.models._token_policy import Policy
from icrl.models.transformer import TransformerConfig
from icrl.recipes.dpt_room_settings import INDEPENDENT, DPTDarkRoomSettings
from icrl.recipes.pretraining import PretrainingExperiment
from icrl.recipes.run import Run
from icrl.training.step import FitSettings

VALIDATION_CONTEXTS = 256
MODEL, ROLLING = "dpt", "dpt, rolling"


@experiments.register("dpt-darkroom", paper="Lee et al. 2023")
class DPTDarkRoom(PretrainingExperiment[DPTDarkRoomSettings]):
    """DPT on the 10 x 10 Dark Room, goals held out."""

    title = "Decision-Pretrained Transformer on Dark Room"
    shared: ClassVar[dict[str, Any]] = {"competitors": ("ucb-vi", "q-learning", "uniform", "oracle")}
    presets: ClassVar[dict[str, DPTDarkRoomSettings]] = {
        "smoke": DPTDarkRoomSettings(
            **shared,
            env=DarkRoomCorner(size=4, horizon=12),
            backbone=TransformerConfig(width=16, num_layers=1, num_heads=1, positions="none", init_std=0.2),
            fit=FitSettings(
                train_steps=40, batch_size=16, learning_rate=3e-3, warmup_steps=10, log_every=10, save_every=20
            ),
            sources=(INDEPENDENT, "posterior-task"),
            context_episodes=2,
            skip_episodes=1,
            eval_episodes=6,
            rollouts_per_task=2,
            offline_contexts=2,
            window=36,
        ),
        "cpu": DPTDarkRoomSettings(
            **shared,
            env=DarkRoomCorner(),
            backbone=TransformerConfig(width=32, num_layers=2, num_heads=2, positions="none", init_std=0.2),
            fit=FitSettings(train_steps=3000, batch_size=32, learning_rate=3e-3, save_every=250),
            sources=(*3 * (INDEPENDENT, "posterior-task"), "annealed-oracle", "oracle"),
            context_episodes=2,
            eval_episodes=20,
            window=200,
        ),
        "paper": DPTDarkRoomSettings(
            **shared,
            env=DarkRoomCorner(),
            backbone=TransformerConfig(width=32, num_layers=4, num_heads=4),
            fit=FitSettings(
                train_steps=125_000,  # 100 epochs of 80 000 contexts
                batch_size=64,
                learning_rate=1e-3,
                schedule="constant",
                warmup_steps=0,
                log_every=1000,
                save_every=5000,
            ),
            pretrain_contexts=80_000,
            layout="query-first",
            train_seeds=5,
            offline_contexts=5,
        ),
    }
    published = (
        {"what": "DPT offline, random data", "value": "61.5 +- 4.2", "where": "Lee et al. 2023, figure 4a"},
        {"what": "DPT offline, expert data", "value": "87.0 +- 1.0", "where": "Lee et al. 2023, figure 4a"},
        {"what": "DPT online, episode 5 / 10 / 40", "value": "61 / 65 / 76", "where": "Lee et al. 2023, figure 4b"},
    )

    @classmethod
    def validate(cls, settings: DPTDarkRoomSettings, seed: int) -> None:
        """Raise ``InputError`` for an agent that does not fit the environment or data of something else."""
        del seed
        if settings.data:
            settings.stored_contexts()
        for name in (*settings.competitors, *settings.players):
            agents[name].for_env(settings.env)

    @classmethod
    def collect(cls, settings: DPTDarkRoomSettings, seed: int, folder: Path, num_tasks: int) -> None:
        """Store the first ``num_tasks`` contexts of the stream of training seed 0."""
        store_contexts(folder, settings.training_contexts(seed, 0), num_tasks, settings.card(seed))

    @classmethod
    def held_out(cls, settings: DPTDarkRoomSettings, run: Run) -> Contexts:
        return settings.contexts(run.seed, "validation", held_out=True).fetch(np.arange(VALIDATION_CONTEXTS))

    @classmethod
    def pretrain(cls, settings: DPTDarkRoomSettings, run: Run) -> tuple[list[Policy], dict[str, float]]:
        """One policy per training seed."""
        started, held_out = time.monotonic(), cls.held_out(settings, run)
        policies = [
            cls._fit(settings, run, train_seed, settings.batches(run.seed, train_seed), held_out)
            for train_seed in range(settings.train_seeds)
        ]
        return policies, {"training": time.monotonic() - started}

    @classmethod
    def evaluate(cls, settings: DPTDarkRoomSettings, run: Run, policies: list[Policy]) -> dict[str, Any]:
        """Section ``episodes`` and the checks."""
        returns, offline = _online(settings, run.seed, policies), _offline(settings, run.seed, policies)
        curves = {name: _curve(name, interval(values)) for name, values in returns.items()}
        fifth, last = (float(returns[MODEL][..., at].mean()) for at in (4, -1))
        return {
            "claim": f"With frozen weights: return {fifth:.1f} in episode 5 of unseen rooms, {last:.1f} in the last.",
            "num_tasks": len(settings.task_ids[1]),
            "num_steps": settings.eval_episodes * settings.context_steps,
            "episodes": {"episode": list(range(1, settings.eval_episodes + 1)), "agents": curves},
            "checks": _checks(offline, returns) if run.preset != "smoke" else [],
        }


def _tasks(settings: DPTDarkRoomSettings, rollouts: int) -> TaskSet:
    """Every held-out task ``rollouts`` times."""
    return TaskSet.of(settings.env, np.asarray(settings.task_ids[1])).repeat(rollouts)


def _by_task(settings: DPTDarkRoomSettings, values: np.ndarray) -> np.ndarray:
    """Means over the rollouts in a task: [tasks x rollouts, ...] to [tasks, ...]."""
    return values.reshape(len(settings.task_ids[1]), -1, *values.shape[1:]).mean(1)


def _online(settings: DPTDarkRoomSettings, seed: int, policies: list[Policy]) -> dict[str, np.ndarray]:
    """Return of each episode [S, tasks, E]; S = 1 for all but the model."""
    env, tasks = settings.env, _tasks(settings, settings.rollouts_per_task)

    def lived(agent: Agent, agent_seed: int, label: str) -> np.ndarray:
        returns = online_returns(env, tasks, agent, settings.eval_episodes, seed, agent_seed, label)
        return _by_task(settings, returns)

    found = {MODEL: np.stack([lived(settings.agent(p), s, f"DPT seed {s}") for s, p in enumerate(policies)])}
    if settings.window:
        each = [lived(settings.rolling_agent(p), s, f"DPT rolling, seed {s}") for s, p in enumerate(policies)]
        found[ROLLING] = np.stack(each)
    for memory in ("episode", "all", "now"):
        agent = agents["posterior-task"].for_env(env, memory=memory)
        found[f"posterior, {memory}"] = lived(agent, 0, f"exact posterior, {memory}")[None]
    for name in settings.competitors:
        found[name] = lived(agents[name].for_env(env), 0, name)[None]
    return found


def _offline(settings: DPTDarkRoomSettings, seed: int, policies: list[Policy]) -> dict[str, np.ndarray]:
    """Return of the greedy policy on given contexts, [S, tasks] by kind of context."""
    env, tasks = settings.env, _tasks(settings, settings.offline_contexts)
    numbers = np.arange(len(tasks)).reshape(settings.offline_contexts, -1).T.ravel()  # context i is of task i % count
    found = {}
    for kind, source in (("random", INDEPENDENT), ("expert", "oracle")):
        contexts = settings.contexts_of(source, settings.context_steps, seed, f"offline/{kind}", True, ordered=True)
        shown = contexts.fetch(numbers).history
        each = [offline_returns(env, tasks, settings.agent(policy, greedy=True), shown, seed) for policy in policies]
        found[kind] = np.stack([_by_task(settings, values) for values in each])
    return found


def _curve(name: str, measured: Interval) -> dict[str, Any]:
    kinds = {MODEL: "model", ROLLING: "model", "posterior, episode": "ideal", "oracle": "oracle"}
    labels = {
        MODEL: "DPT (ours), last episode",
        ROLLING: "DPT (ours), rolling context",
        "oracle": "optimum",
        "posterior, episode": "exact posterior, last episode",
        "posterior, all": "exact posterior, all episodes before",
        "posterior, now": "exact posterior, all steps before",
    }
    look = {"kind": kinds.get(name, "baseline"), "label": labels.get(name, name), "interval": measured.method}
    return {**look, "returns": measured.band()}


def _checks(offline: dict[str, np.ndarray], returns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = [
        ("offline return, random data", offline["random"], 55.0, 66.0),
        ("offline return, expert data", offline["expert"], 85.0, 91.0),
        ("online return, episode 5", returns[MODEL][..., 4], 45.0, 65.0),
    ]
    checks = [_check(what, interval(values), low, high) for what, values, low, high in rows]
    if ROLLING in returns:
        gain = interval((returns[ROLLING] - returns[MODEL]).mean(-1))
        checks.append(_check("rolling context above the last episode, mean of all episodes", gain, 0.0, np.inf))
    return checks


def _check(what: str, measured: Interval, low: float, high: float) -> dict[str, Any]:
    ok, target = bool(low <= measured.mean <= high), f"in {low:g} .. {high:g}" if np.isfinite(high) else f">= {low:g}"
    return {"what": what, "measured": measured.band(), "target": target, "ok": ok}
