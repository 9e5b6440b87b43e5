"""Leaderboard: every registered agent and one pretrained model in every registered environment, on the same draws.

Each agent plays in each environment that it fits, as ``for_env`` builds it and, but for ``--tune none``, with the best
of a grid of five settings (``recipes/tuning.py``), chosen in other tasks: of a numbered family in those of the training
split, while the held-out ones are played. Charts show the chosen settings, tables both; the exact posterior sampler is
not tuned. Those that refuse an environment are listed with their reason. Everywhere the regret is exact (true means,
backward induction) and so is the optimum. Bandits last as long as the model's, other environments as many whole
episodes as fill ``mdp_steps``. The exact posterior sampler is the ideal where there is one; the lower bound is that of
Lai and Robbins 1985, asymptotic: on the way regret may lie below it.

The model is that of a finished run (``--model-run FOLDER``), or else a decision-pretrained transformer on Gaussian
bandits, trained here in a few minutes; it plays where tasks look as those it was trained on.

Measured, preset cpu, seed 0 (2026-11-30, two CPU cores beside other work, 86 CPU minutes, most of it compiling, each
tuned pair twice, which is over since): 45 agents in 45 worlds, 830 pairs, five settings each. The model loses 1.27
[1.22, 1.31] times what exact posterior sampling does at home, and Gittins indices 0.72 times. Least regret: Gittins
indices and information-directed sampling where arms are independent, OFUL and LinUCB where they have features, exact
beliefs in POMDPs, UCB-VI in deep-sea and RiverSwim, Q-learning in FrozenLake, Corridor and Garnet; in dark rooms, 400
steps are too few for all but the agent that knows the list of rooms. Tuning is worth a factor of 4.7 to UCB1, 3.5 to
disjoint LinUCB and 1.5 to UCB on Gaussian arms; the bonus of UCBVI-CH is best left out in nine of eleven worlds. OPSRL,
two minutes a room, stays out of worlds of more than 30 states unless it is named.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from icrl.core.fields import Checked, setting
from icrl.core.model_types import ModelConfig
from icrl.core.progress import Progress
from icrl.core.registry import agents, environments, experiments, models
from icrl.core.settings import check_following, follows
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Environment
from icrl.envs._bandit import Bandit
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.evaluation.online import Trial
from icrl.evaluation.statistics import interval, ratio_interval, task_interval
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.models._token_policy import Policy
from icrl.models.transformer import TransformerConfig
from icrl.recipes.checks import Row, at_most, kept
from icrl.recipes.competitors import COLLECTORS, fitting
from icrl.recipes.ledger import Ledger
from icrl.recipes.lower_bound import lower_bound
from icrl.recipes.measure import curve, with_choices
from icrl.recipes.parts import GRID, NONE, TUNINGS, DataSettings, Prediction
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import Run, reopen
from icrl.recipes.task_split import task_split, tasks_for
from icrl.recipes.tournament import MatchUp, Pretrained, Tournament, regrets_of
from icrl.recipes.tuning import TUNE, Tuner
from icrl.reports.sections.worlds import world_title
from icrl.training.step import FitSettings

MODEL = "pretrained"
HOME = "GaussianBandit-v0"  # of the model that is trained here
POINTS = 40  # of a curve, evenly on a logarithmic axis
PAIRS = 100  # whose code is kept: each is used once, and Linux lends a process 65 530 mappings of memory


@dataclasses.dataclass(frozen=True)
class LeaderboardSettings(Checked):
    """All settings of the leaderboard."""

    env: GaussianBandit  # of the model that is trained here
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    model: str = setting("transformer", help="registered sequence model that is trained here")
    model_run: str = setting("", help="output folder of a finished run whose model plays instead; empty: train one")
    environments: tuple[str, ...] = setting((), help="registered environments; none named: all")
    agents: tuple[str, ...] = setting((), help="registered agents; none named: all")
    max_states: int = setting(100, low=1, high=4096, help="environments with more states are left out")
    slow_agents: tuple[str, ...] = setting(
        (), help="agents that stay out where there are more than slow_states, unless in agents"
    )
    slow_states: int = setting(30, low=0, high=2**31 - 1, help="states of an environment that slow_agents still enter")
    collectors: tuple[str, ...] = setting(COLLECTORS, help="make data, play if in agents")
    num_tasks: int = setting(1000, low=2, high=10**7, help="bandits, each with every agent")
    mdp_steps: int = setting(
        400, low=1, high=2**24, help="steps in environments with states, rounded up to whole episodes"
    )
    mdp_tasks: int = setting(24, low=2, high=10**6, help="tasks of each environment with states")
    tune: str = setting(
        NONE, choices=TUNINGS, help="settings of agents: none, their defaults; grid, the best of a small grid each"
    )
    tune_tasks: int | None = setting(
        None, low=2, high=10**7, help="tasks behind a tuned setting, no test tasks; at most, and by default, num_tasks"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_following(self)
        for name in self.environments:
            environments.entry(name)
        for name in (*self.agents, *self.slow_agents, *self.collectors):
            agents.entry(name)

    @property
    def pretraining(self) -> Recipe:
        """The recipe of the model that is trained here."""
        layout = Prediction(layout="query-first")
        return Recipe(env=self.env, backbone=self.backbone, fit=self.fit, model=self.model, prediction=layout)

    def environment(self, name: str) -> Environment | None:
        """The registered environment, a bandit as long as the model's; None when it has too many states.

        And where actions are a box, in which next to nobody plays.
        """
        env: Environment = environments.make(name)
        if isinstance(env, Bandit):
            return dataclasses.replace(env, horizon=self.env.horizon)
        few = (env.spec.num_states or 1) <= self.max_states
        return env if few and env.spec.action_box is None else None

    def match_up(self, name: str, guest: Pretrained) -> MatchUp | None:
        """Who plays in a registered environment, and for how long; None when it has too many states."""
        env = self.environment(name)
        if env is None:
            return None
        bandit, episode = isinstance(env, Bandit), env.spec.max_steps_in_episode
        steps = episode if bandit else -(-self.mdp_steps // episode) * episode
        players, skipped = self.who_plays(env, guest, steps)
        return MatchUp(name, env, steps, self.num_tasks if bandit else self.mdp_tasks, players, skipped)

    def test_tasks(self, match: MatchUp, seed: int) -> TaskSet:
        """Tasks of the match-up; in a numbered family those that are held out, as often as it takes."""
        split = task_split(match.env, DataSettings())
        count = match.num_tasks if split is None else min(match.num_tasks, len(split[1]))
        ids = None if split is None else split[1]
        return tasks_for(match.env, ids, seed, "leaderboard", count, -(-match.num_tasks // count))[: match.num_tasks]

    def tuner(self, match: MatchUp, seed: int, ledger: Ledger) -> Tuner | None:
        """Chooses settings for the match-up, in other tasks than ``test_tasks``; None: nobody is tuned."""
        if self.tune == NONE:
            return None
        split = task_split(match.env, DataSettings())
        ids = None if split is None else split[0]
        count = min(self.tune_tasks or match.num_tasks, match.num_tasks)
        tasks = tasks_for(match.env, ids, seed, TUNE, count)
        trial = Trial(match.env, tasks, match.num_steps, seed, quick=True, purpose=TUNE, like=match.num_tasks)
        return Tuner(trial, ledger)

    def who_plays(self, env: Environment, guest: Pretrained, steps: int) -> tuple[dict[str, Agent], dict[str, str]]:
        """The agents in ``env``, and why the others do not play."""
        players, skipped = fitting(env, self.agents, self.collectors, dict.fromkeys(self.slow_agents, self.slow_states))
        if reason := guest.refuses(env, steps):
            return players, {**skipped, MODEL: reason}
        return {**players, MODEL: guest.agent}, skipped


@experiments.register("leaderboard", paper="-")
class Leaderboard(Tournament[LeaderboardSettings]):
    """All agents in all environments."""

    title = "Leaderboard: all agents, all environments, one pretrained model"
    presets = {
        "smoke": LeaderboardSettings(
            env=GaussianBandit(num_arms=5, horizon=20),
            backbone=TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.2),
            fit=FitSettings(
                train_steps=20, batch_size=16, learning_rate=3e-3, warmup_steps=5, log_every=10, save_every=20
            ),
            environments=("GaussianBandit-v0", "RiverSwim-v0"),
            agents=("oracle", "posterior-gaussian", "ucb", "ucb-vi", "uniform"),
            num_tasks=20,
            mdp_steps=40,
            mdp_tasks=4,
        ),
        "cpu": LeaderboardSettings(
            env=GaussianBandit(horizon=200),
            backbone=TransformerConfig(width=32, num_layers=2, num_heads=1, positions="none", init_std=0.2),
            fit=FitSettings(train_steps=1500, batch_size=64, learning_rate=3e-3),
            slow_agents=("opsrl",),
            tune=GRID,
            tune_tasks=500,
        ),
        "paper": LeaderboardSettings(
            env=GaussianBandit(horizon=500),
            backbone=TransformerConfig(width=32, num_layers=4, num_heads=4, init_std=0.02),
            fit=FitSettings(train_steps=50_000, batch_size=64, learning_rate=3e-4),
            max_states=512,
            num_tasks=10_000,
            mdp_steps=2000,
            mdp_tasks=400,
            tune=GRID,
        ),
    }

    @classmethod
    def validate(cls, settings: LeaderboardSettings, seed: int) -> None:
        """Raise ``InputError`` when ``model_run`` is no run."""
        del seed
        if settings.model_run:
            reopen(Path(settings.model_run).expanduser())

    @classmethod
    def num_models(cls, settings: LeaderboardSettings) -> int:
        return 0 if settings.model_run else 1

    @classmethod
    def load_agent(cls, settings: LeaderboardSettings, run: Run, model: int) -> Agent:
        if settings.model_run:
            return Pretrained.of_run(Path(settings.model_run).expanduser()).agent
        return DPTBandit.load_agent(settings.pretraining, run, model)

    @classmethod
    def reevaluate(cls, settings: LeaderboardSettings, run: Run) -> dict[str, Any]:
        cls.load_agent(settings, run, 0)  # refuses where there is no checkpoint, instead of training
        return cls.run(settings, run)

    @classmethod
    def play(cls, settings: LeaderboardSettings, run: Run) -> dict[str, Any]:
        """Sections ``worlds`` and ``checks`` of the results."""
        seconds: dict[str, float] = {}
        if settings.model_run:
            guest = Pretrained.of_run(Path(settings.model_run).expanduser())
        else:
            (policy,), seconds = DPTBandit.pretrain(settings.pretraining, run)
            guest = _trained(settings, policy)
        named = settings.environments or tuple(environments)
        matches = [match for name in named if (match := settings.match_up(name, guest))]
        worlds, checks, kept_pairs = {}, [], 0
        with Progress("leaderboard", sum(len(match.agents) for match in matches), "pairs") as bar:
            for match in matches:
                worlds[match.name], promised = section_of(settings, match, guest, run.seed, bar, run.ledger)
                checks += promised if run.preset != "smoke" else []
                kept_pairs += len(match.agents)
                if kept_pairs >= PAIRS:  # what all worlds share, as drawing tasks, is compiled again too
                    jax.clear_caches()
                    kept_pairs = 0
        played = [pair for world in worlds.values() for pair in world["agents"].items()]
        everyone = {agent.get("tuned_from") or name for name, agent in played}
        claim = f"{len(everyone)} agents in {len(worlds)} worlds."
        return {
            "claim": f"{claim} {_winners(worlds)}",
            "num_tasks": settings.num_tasks,
            "num_steps": settings.env.horizon,
            "worlds": worlds,
            "checks": checks,
            "seconds": seconds,
        }


def _trained(settings: LeaderboardSettings, policy: Policy) -> Pretrained:
    agent = settings.pretraining.agent(policy)
    return Pretrained(f"DPT on {settings.env.name} (ours)", agent, settings.env.spec)


def section_of(
    settings: LeaderboardSettings, match: MatchUp, guest: Pretrained, seed: int, bar: Progress, ledger: Ledger
) -> tuple[dict[str, Any], list[Row]]:
    """The section of one environment, and a check of the model trained here where it is at home."""
    env, steps = match.env, match.num_steps
    tasks, tuner = settings.test_tasks(match, seed), settings.tuner(match, seed, ledger)
    regrets, choices = regrets_of(match, tasks, seed, bar, ledger, quick=True, tuner=tuner)
    at = np.unique(np.geomspace(1, steps, POINTS).round().astype(int))
    labels, ideal = {MODEL: guest.label}, env.spec.exact_sampler
    curves = {
        player: curve(player, "regret", interval(regret[None, :, at - 1]), labels, ideal, env.spec.exact_policy)
        for player, regret in regrets.items()
    }
    for player, agent in match.agents.items():
        curves[player] |= {"kind": "oracle"} if agent.sees_env_state else {}
    curves = with_choices(curves, choices)
    optimum = np.asarray(jax.vmap(env.optimal_return, axis_size=len(tasks))(tasks.params), np.float64)
    section = {
        "steps": at.tolist(),
        "agents": curves,
        "num_tasks": match.num_tasks,
        "optimum": task_interval(optimum).band(),
        "lower_bound": lower_bound(env, tasks, at),
        "skipped": match.skipped,
    }
    if settings.model_run or match.name != HOME or not {MODEL, ideal} <= regrets.keys():
        return section, []

    def near() -> list[Row]:
        ratio = ratio_interval(regrets[MODEL][:, -1], regrets[ideal][:, -1])
        return [at_most(f"regret({steps}) of {guest.label} / exact posterior sampling", ratio, 1.3)]

    return section, kept(near)


def _winners(worlds: dict[str, Any]) -> str:
    """The agent with the least regret in each world, oracles aside."""
    best = []
    for name, world in worlds.items():
        final = {
            each["label"]: each["regret"]["mean"][-1] for each in world["agents"].values() if each["kind"] != "oracle"
        }
        best.append(f"{world_title(name)}: {min(final, key=lambda label: final[label])}" if final else "")
    return "Least regret in " + "; ".join(filter(None, best)) + "."
