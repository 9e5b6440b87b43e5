"""The leaderboard's arenas: each world with those who play in it, a pretrained guest among them."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from icrl.core.registry import environments, experiments
from icrl.core.types import Agent, Environment, EnvSpec
from icrl.envs._bandit import Bandit
from icrl.models._token_policy import Policy
from icrl.recipes.competitors import fitting
from icrl.recipes.leaderboard_settings import LeaderboardSettings
from icrl.recipes.run import reopen

MODEL = "pretrained"


@dataclasses.dataclass(frozen=True)
class Guest:
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
        room = self.agent.capacity
        return "" if room is None or num_steps <= room else f"needs rollouts of at most {room} steps"


class Arena(NamedTuple):
    """A world, for how long, and who plays in it."""

    name: str
    env: Environment
    num_steps: int
    num_tasks: int
    players: dict[str, Agent]
    skipped: dict[str, str]  # why the others do not


def trained(settings: LeaderboardSettings, policy: Policy) -> Guest:
    """The model that was trained for this leaderboard."""
    return Guest(f"DPT on {settings.env.name} (ours)", settings.agent(policy), settings.env.spec)


def invited(settings: LeaderboardSettings) -> Guest:
    """The model of the run that the settings name."""
    run = reopen(Path(settings.model_run))
    agent = experiments[run.experiment].load_agent(run.settings, run, 0)
    return Guest(f"model of {run.experiment} (ours)", agent, run.settings.env.spec)


def _world(settings: LeaderboardSettings, name: str) -> Environment | None:
    """The environment at this leaderboard's size, or None when it has too many states."""
    env = environments[name]()
    if isinstance(env, Bandit):
        return dataclasses.replace(env, horizon=settings.num_steps)
    return env if (env.spec.num_states or 1) <= settings.max_states else None


def arena_of(settings: LeaderboardSettings, name: str, guest: Guest) -> Arena | None:
    """A world and who plays in it; None when it has too many states."""
    env = _world(settings, name)
    if env is None:
        return None
    bandit, episode = isinstance(env, Bandit), env.spec.max_steps_in_episode
    steps = episode if bandit else -(-settings.mdp_steps // episode) * episode
    players, skipped = _players(settings, env, guest, steps)
    return Arena(name, env, steps, settings.num_tasks if bandit else settings.mdp_tasks, players, skipped)


def _players(
    settings: LeaderboardSettings, env: Environment, guest: Guest, num_steps: int
) -> tuple[dict[str, Agent], dict[str, str]]:
    """Who plays in ``env``, and why the others do not."""
    slow = dict.fromkeys(settings.slow_players, settings.slow_states)
    players, skipped = fitting(env, settings.players, settings.collectors, slow)
    if reason := guest.refuses(env, num_steps):
        skipped[MODEL] = reason
    else:
        players[MODEL] = guest.agent
    return players, skipped
