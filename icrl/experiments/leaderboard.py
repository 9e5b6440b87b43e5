"""Leaderboard: every registered agent and one pretrained model in every registered world, on the same draws.

Each agent lives in each world that it fits as ``for_env`` builds it, untuned but for the bonus scales of ``ucrl2`` and
``ucb-h``, whose defaults were chosen on ``RandomMDP-v0``; those that refuse are listed with their reason. Everywhere
the regret is exact (true means, backward induction) and so is the optimum. Bandits last ``num_steps`` pulls, other
worlds as many whole episodes as fill ``mdp_steps``. The exact posterior sampler is the ideal where there is one; the
lower bound is that of Lai and Robbins 1985, asymptotic: on the way regret may lie below it.

The model is that of a finished run (``--model-run FOLDER``), or else a decision-pretrained transformer on Gaussian
bandits, trained here in a few minutes; it plays where tasks look as those it was trained on.

Preset cpu as a whole has not been run yet: 651 pairs of agent and world, in 25 worlds, cost 3 to 4 seconds of one core
each, nearly all of it compiling (2026-11-24), so it takes about half an hour; OPSRL in rooms costs more than a minute.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from icrl.agents.arm_agent import ArmAgent
from icrl.agents.rolling_context import RollingContextAgent
from icrl.config import check_following, follows
from icrl.envs.bandit import Bandit
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.errors import InputError, require_int
from icrl.evaluation import online_regret
from icrl.exact.divergence import bernoulli_kl
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.experiments.dpt_pipeline import AsInDPT, DPTSettings, curve
from icrl.experiments.pretraining import PretrainingExperiment
from icrl.models.token_policy import FrozenPolicy
from icrl.models.transformer import TransformerConfig
from icrl.registry import agents, environments, experiments, models
from icrl.runs import Run, reopen
from icrl.statistics import interval, ratio_interval, task_interval
from icrl.tasks import TaskSet
from icrl.train_step import FitSettings
from icrl.types import Agent, Environment, EnvSpec, ModelConfig

MODEL, UNIFORM = "pretrained", "uniform"  # uniform play is the unit of the table, so it plays everywhere
HOME = "GaussianBandit-v0"  # where the model that is trained here comes from
POINTS = 40  # of a curve, evenly on a logarithmic axis
IDEALS = {  # exact posterior sampling
    "BernoulliBandit-v0": "thompson-bernoulli",
    "GaussianBandit-v0": "posterior-gaussian",
    "LinearBandit-v0": "lin-ts",
}


@dataclasses.dataclass(frozen=True)
class LeaderboardSettings(AsInDPT):
    """All settings of the leaderboard."""

    env: GaussianBandit  # of the model that is trained here
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    model: str = "transformer"  # registered sequence model that is trained here
    model_run: str = ""  # output folder of a finished run whose model plays instead; empty: train one
    worlds: tuple[str, ...] = ()  # registered environments; none named: all
    players: tuple[str, ...] = ()  # registered agents; none named: all
    max_states: int = 100  # worlds with more states are left out
    num_tasks: int = 1000  # bandits, each with every agent
    mdp_steps: int = 400  # steps in worlds with states, rounded up to whole episodes
    mdp_tasks: int = 24  # tasks of each world with states

    train_seeds = 1

    def __post_init__(self) -> None:
        check_following(self)
        for name in self.worlds:
            environments.entry(name)
        for name in self.players:
            agents.entry(name)
        require_int("max_states", self.max_states, 1, 4096)
        require_int("num_tasks", self.num_tasks, 2, 10**7)
        require_int("mdp_steps", self.mdp_steps, 1, 2**24)
        require_int("mdp_tasks", self.mdp_tasks, 2, 10**6)

    @property
    def num_steps(self) -> int:
        """T, pulls in a bandit: as many as the model trained here has room for."""
        return self.env.horizon

    @property
    def pretraining(self) -> DPTSettings:
        """The recipe of the model that is trained here."""
        ideal = IDEALS[HOME]
        return DPTSettings(
            env=self.env, backbone=self.backbone, fit=self.fit, model=self.model, competitors=(ideal,), ideal=ideal
        )


@dataclasses.dataclass(frozen=True)
class _Guest:
    """A pretrained model, and the worlds it can play in."""

    label: str
    agent: Agent
    spec: EnvSpec  # of the family it was trained on

    def refuses(self, env: Environment, num_steps: int) -> str:
        """Why it does not fit ``env``; empty if it does."""
        known, found = self.spec, env.spec
        same = (known.num_actions, known.obs_shape, known.obs_nvec) == (
            found.num_actions,
            found.obs_shape,
            found.obs_nvec,
        )
        if not same:
            return f"needs observations and actions as in {known.name}"
        rolls = isinstance(self.agent, RollingContextAgent)
        room = getattr(self.agent, "max_steps", num_steps)
        return "" if rolls or num_steps <= room else f"needs lives of at most {room} steps"


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
    def pretrain(cls, settings: LeaderboardSettings, run: Run) -> tuple[list[FrozenPolicy], dict[str, float]]:
        """The model, unless one is invited."""
        return ([], {}) if settings.model_run else DPTBandit.pretrain(settings.pretraining, run)

    @classmethod
    def evaluate(cls, settings: LeaderboardSettings, run: Run, policies: list[FrozenPolicy]) -> dict[str, Any]:
        """Sections ``worlds`` and ``checks`` of the results."""
        guest = _invited(settings) if settings.model_run else _trained(settings, policies[0])
        worlds, checks = {}, []
        for name in settings.worlds or tuple(environments):
            env = _world(settings, name)
            if env is not None:
                worlds[name], ratio = _play(settings, name, env, guest, run.seed)
                checks += [ratio] if ratio and run.preset != "smoke" else []
        claim = f"{len(set().union(*(world['agents'] for world in worlds.values())))} agents in {len(worlds)} worlds."
        return {
            "claim": f"{claim} {_winners(worlds)}",
            "num_tasks": settings.num_tasks,
            "num_steps": settings.num_steps,
            "worlds": worlds,
            "checks": checks,
        }


def _trained(settings: LeaderboardSettings, policy: FrozenPolicy) -> _Guest:
    return _Guest(f"DPT on {settings.env.name} (ours)", settings.agent(policy), settings.env.spec)


def _invited(settings: LeaderboardSettings) -> _Guest:
    run = reopen(Path(settings.model_run))
    agent = experiments[run.experiment].load_agent(run.settings, run, 0)
    return _Guest(f"model of {run.experiment} (ours)", agent, run.settings.env.spec)


def _world(settings: LeaderboardSettings, name: str) -> Environment | None:
    """The environment at this leaderboard's size, or None when it has too many states."""
    env = environments[name]()
    if isinstance(env, Bandit):
        return dataclasses.replace(env, horizon=settings.num_steps)
    return env if (env.spec.num_states or 1) <= settings.max_states else None


def _play(
    settings: LeaderboardSettings, name: str, env: Environment, guest: _Guest, seed: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The section of one world, and a check of the model trained here where it is at home."""
    episode = env.spec.max_steps_in_episode
    steps = episode if isinstance(env, Bandit) else -(-settings.mdp_steps // episode) * episode
    count = settings.num_tasks if isinstance(env, Bandit) else settings.mdp_tasks
    tasks = TaskSet.draw(env, seed, "leaderboard", count)
    players, skipped = _players(settings, env, guest, steps)
    regrets = {
        player: online_regret(env, tasks, agent, steps, seed, label=f"{player} in {name}")
        for player, agent in players.items()
    }
    at = np.unique(np.geomspace(1, steps, POINTS).round().astype(int))
    labels, ideal = {MODEL: guest.label}, IDEALS.get(name, "")
    curves = {
        player: curve(player, "regret", interval(regret[None, :, at - 1]), labels, ideal)
        for player, regret in regrets.items()
    }
    for player, agent in players.items():
        curves[player] |= {"kind": "oracle"} if agent.sees_env_state else {}
    optimum = np.asarray(jax.vmap(env.optimal_return)(tasks.params), np.float64)
    section = {
        "steps": at.tolist(),
        "agents": curves,
        "num_tasks": count,
        "optimum": task_interval(optimum).band(),
        "lower_bound": lower_bound(env, tasks, at),
        "skipped": skipped,
    }
    if settings.model_run or name != HOME or not {MODEL, ideal} <= regrets.keys():
        return section, None
    ratio = ratio_interval(regrets[MODEL][:, -1], regrets[ideal][:, -1])
    what = f"regret({steps}) of {guest.label} / exact posterior sampling"
    return section, {"what": what, "measured": ratio.band(), "target": "<= 1.3", "ok": bool(ratio.mean <= 1.3)}


def _players(
    settings: LeaderboardSettings, env: Environment, guest: _Guest, num_steps: int
) -> tuple[dict[str, Agent], dict[str, str]]:
    """Who plays in ``env``, and why the others do not."""
    players, skipped = {}, {}
    for name in settings.players or tuple(agents):
        try:
            agent = agents[name].for_env(env)
        except InputError as refusal:
            skipped[name] = str(refusal)
            continue
        if name != UNIFORM and isinstance(agent, ArmAgent) and env.spec.num_states:
            skipped[name] = "ignores the observation, needs a world without states"
        else:
            players[name] = agent
    if reason := guest.refuses(env, num_steps):
        skipped[MODEL] = reason
    else:
        players[MODEL] = guest.agent
    return players, skipped


def lower_bound(env: Environment, tasks: TaskSet, steps: np.ndarray) -> list[float] | None:
    """Mean over tasks of sum_a gap_a / kl_a ln(t kl_a), where positive, [P]; None where no bound is known.

    Lai and Robbins 1985 have ln t; with t kl_a in its place (Lai 1987) the limit is the same, and a task whose arms can
    hardly be told apart counts with what they cost so far and not with an enormous constant.
    """
    if not isinstance(env, BernoulliBandit | GaussianBandit):
        return None
    means = np.asarray(jax.vmap(env.arm_means)(tasks.params), np.float64)
    best = means.max(1, keepdims=True)
    if isinstance(env, GaussianBandit):
        kl = np.square(best - means) / (2 * env.noise_std**2)
    else:
        kl = bernoulli_kl(means, best)
    worse = kl > 0
    rate = np.divide(best - means, kl, out=np.zeros_like(kl), where=worse)
    return [float((rate * np.log(np.maximum(t * np.where(worse, kl, 1.0), 1.0))).sum(1).mean()) for t in steps]


def _winners(worlds: dict[str, Any]) -> str:
    """The agent with the least regret in each world, oracles aside."""
    best = []
    for name, world in worlds.items():
        final = {
            each["label"]: each["regret"]["mean"][-1] for each in world["agents"].values() if each["kind"] != "oracle"
        }
        best.append(f"{name.removesuffix('-v0')}: {min(final, key=lambda label: final[label])}" if final else "")
    return "Least regret in " + "; ".join(filter(None, best)) + "."
