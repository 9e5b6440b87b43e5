"""Leaderboard: every registered agent and one pretrained model in every registered world, on the same draws.

Each agent lives in each world that it fits as ``for_env`` builds it, untuned but for the bonus scales of ``ucrl2`` and
``ucb-h``, whose defaults were chosen on ``RandomMDP-v0``; those that refuse are listed with their reason. Everywhere
the regret is exact (true means, backward induction) and so is the optimum. Bandits last ``num_steps`` pulls, other
worlds as many whole episodes as fill ``mdp_steps``. The exact posterior sampler is the ideal where there is one; the
lower bound is that of Lai and Robbins 1985, asymptotic: on the way regret may lie below it.

The model is that of a finished run (``--model-run FOLDER``), or else a decision-pretrained transformer on Gaussian
bandits, trained here in a few minutes; it plays where tasks look as those it was trained on.

Measured, preset cpu, seed 0 (2026-11-26, two CPU cores, 14 min 44 s, most of it compiling): 41 agents in 25 worlds, 568
pairs. The model loses 1.27 [1.22, 1.31] times what exact posterior sampling does at home; Gittins indices lose least in
four of the bandits with independent arms, LinUCB and OFUL where arms have features, disjoint LinUCB on real tables,
UCB-VI or UCRL2 in small worlds with states; in the rooms, 400 steps are too few for all but the agent that knows the
list of rooms. OPSRL, two minutes a room, stays out of worlds of more than 30 states unless it is named.
"""

from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from icrl.core.devices import host_workers
from icrl.core.progress import Progress
from icrl.core.registry import environments, experiments
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.evaluation.online import online_regret
from icrl.evaluation.statistics import interval, ratio_interval, task_interval
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.models._token_policy import Policy
from icrl.models.transformer import TransformerConfig
from icrl.recipes.arena import MODEL, Arena, Guest, arena_of, invited, trained
from icrl.recipes.leaderboard_settings import HOME, LeaderboardSettings
from icrl.recipes.lower_bound import lower_bound
from icrl.recipes.measure import curve
from icrl.recipes.pretraining import PretrainingExperiment
from icrl.recipes.run import Run, reopen
from icrl.reports.sections.worlds import world_title
from icrl.training.step import FitSettings

POINTS = 40  # of a curve, evenly on a logarithmic axis


@experiments.register("leaderboard", paper="-")
class Leaderboard(PretrainingExperiment[LeaderboardSettings]):
    """All agents in all worlds."""

    title = "Leaderboard: all agents, all worlds, one pretrained model"
    presets = {
        "smoke": LeaderboardSettings(
            env=GaussianBandit(num_arms=5, horizon=20),
            backbone=TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.2),
            fit=FitSettings(
                train_steps=20, batch_size=16, learning_rate=3e-3, warmup_steps=5, log_every=10, save_every=20
            ),
            worlds=("GaussianBandit-v0", "RiverSwim-v0"),
            players=("oracle", "posterior-gaussian", "ucb", "ucb-vi", "uniform"),
            num_tasks=20,
            mdp_steps=40,
            mdp_tasks=4,
        ),
        "cpu": LeaderboardSettings(
            env=GaussianBandit(horizon=200),
            backbone=TransformerConfig(width=32, num_layers=2, num_heads=1, positions="none", init_std=0.2),
            fit=FitSettings(train_steps=1500, batch_size=64, learning_rate=3e-3),
            slow_players=("opsrl",),
        ),
        "paper": LeaderboardSettings(
            env=GaussianBandit(horizon=500),
            backbone=TransformerConfig(width=32, num_layers=4, num_heads=4, init_std=0.02),
            fit=FitSettings(train_steps=50_000, batch_size=64, learning_rate=3e-4),
            max_states=512,
            num_tasks=10_000,
            mdp_steps=2000,
            mdp_tasks=400,
        ),
    }

    @classmethod
    def validate(cls, settings: LeaderboardSettings, seed: int) -> None:
        """Raise ``InputError`` when ``model_run`` is no run."""
        del seed
        if settings.model_run:
            reopen(Path(settings.model_run))

    @classmethod
    def num_models(cls, settings: LeaderboardSettings) -> int:
        return 0 if settings.model_run else 1

    @classmethod
    def pretrain(cls, settings: LeaderboardSettings, run: Run) -> tuple[list[Policy], dict[str, float]]:
        """The model, unless one is invited."""
        return ([], {}) if settings.model_run else DPTBandit.pretrain(settings.pretraining, run)

    @classmethod
    def evaluate(cls, settings: LeaderboardSettings, run: Run, policies: list[Policy]) -> dict[str, Any]:
        """Sections ``worlds`` and ``checks`` of the results."""
        guest = invited(settings) if settings.model_run else trained(settings, policies[0])
        arenas = [
            arena for name in settings.worlds or tuple(environments) if (arena := arena_of(settings, name, guest))
        ]
        worlds, checks = {}, []
        pairs = sum(len(arena.players) for arena in arenas)
        with Progress("leaderboard", pairs, "pairs") as bar, ThreadPoolExecutor(host_workers()) as pool:
            for arena in arenas:
                worlds[arena.name], ratio = _play(settings, arena, guest, run.seed, pool, bar)
                checks += [ratio] if ratio and run.preset != "smoke" else []
                jax.clear_caches()  # a pair's code is used once, and Linux lends a process 65 530 mappings of memory
        claim = f"{len(set().union(*(world['agents'] for world in worlds.values())))} agents in {len(worlds)} worlds."
        return {
            "claim": f"{claim} {_winners(worlds)}",
            "num_tasks": settings.num_tasks,
            "num_steps": settings.num_steps,
            "worlds": worlds,
            "checks": checks,
        }


def _play(
    settings: LeaderboardSettings, arena: Arena, guest: Guest, seed: int, pool: Executor, bar: Progress
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The section of one world, and a check of the model trained here where it is at home."""
    name, env, steps = arena.name, arena.env, arena.num_steps
    tasks = TaskSet.draw(env, seed, "leaderboard", arena.num_tasks)

    def regret_of(agent: Agent) -> np.ndarray:
        return online_regret(env, tasks, agent, steps, seed, label="", quick=True)

    regrets = {}  # most of the time goes into compiling, which leaves cores idle: players come side by side
    for player, regret in zip(arena.players, pool.map(regret_of, arena.players.values()), strict=True):
        regrets[player] = regret
        bar.advance(1, f"{player} in {name}")
    at = np.unique(np.geomspace(1, steps, POINTS).round().astype(int))
    labels, ideal = {MODEL: guest.label}, env.spec.exact_sampler
    curves = {
        player: curve(player, "regret", interval(regret[None, :, at - 1]), labels, ideal)
        for player, regret in regrets.items()
    }
    for player, agent in arena.players.items():
        curves[player] |= {"kind": "oracle"} if agent.sees_env_state else {}
    optimum = np.asarray(jax.vmap(env.optimal_return, axis_size=len(tasks))(tasks.params), np.float64)
    section = {
        "steps": at.tolist(),
        "agents": curves,
        "num_tasks": arena.num_tasks,
        "optimum": task_interval(optimum).band(),
        "lower_bound": lower_bound(env, tasks, at),
        "skipped": arena.skipped,
    }
    if settings.model_run or name != HOME or not {MODEL, ideal} <= regrets.keys():
        return section, None
    ratio = ratio_interval(regrets[MODEL][:, -1], regrets[ideal][:, -1])
    what = f"regret({steps}) of {guest.label} / exact posterior sampling"
    return section, {"what": what, "measured": ratio.band(), "target": "<= 1.3", "ok": bool(ratio.mean <= 1.3)}


def _winners(worlds: dict[str, Any]) -> str:
    """The agent with the least regret in each world, oracles aside."""
    best = []
    for name, world in worlds.items():
        final = {
            each["label"]: each["regret"]["mean"][-1] for each in world["agents"].values() if each["kind"] != "oracle"
        }
        best.append(f"{world_title(name)}: {min(final, key=lambda label: final[label])}" if final else "")
    return "Least regret in " + "; ".join(filter(None, best)) + "."
