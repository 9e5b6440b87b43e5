"""Settings of the leaderboard: who plays where, for how long, and the model that is trained for it."""

import dataclasses

from icrl.core.errors import require_int
from icrl.core.model_types import ModelConfig
from icrl.core.registry import agents, environments, models
from icrl.core.settings import check_following, follows
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.recipes.competitors import COLLECTORS
from icrl.recipes.parts import Prediction
from icrl.recipes.recipe import ByRecipe, Recipe
from icrl.training.step import FitSettings

HOME = "GaussianBandit-v0"  # where the model that is trained here comes from


@dataclasses.dataclass(frozen=True)
class LeaderboardSettings(ByRecipe):
    """All settings of the leaderboard."""

    env: GaussianBandit  # of the model that is trained here
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    model: str = "transformer"  # registered sequence model that is trained here
    model_run: str = ""  # output folder of a finished run whose model plays instead; empty: train one
    worlds: tuple[str, ...] = ()  # registered environments; none named: all
    players: tuple[str, ...] = ()  # registered agents; none named: all
    max_states: int = 100  # worlds with more states are left out
    slow_players: tuple[str, ...] = ()  # agents that stay out of worlds with more than slow_states, unless in players
    slow_states: int = 30  # states of a world that slow_players still enter
    collectors: tuple[str, ...] = COLLECTORS  # make data, play if in players
    num_tasks: int = 1000  # bandits, each with every agent
    mdp_steps: int = 400  # steps in worlds with states, rounded up to whole episodes
    mdp_tasks: int = 24  # tasks of each world with states

    train_seeds = 1

    def __post_init__(self) -> None:
        check_following(self)
        for name in self.worlds:
            environments.entry(name)
        for name in (*self.players, *self.slow_players, *self.collectors):
            agents.entry(name)
        require_int("max_states", self.max_states, 1, 4096)
        require_int("slow_states", self.slow_states, 0, 2**31 - 1)
        require_int("num_tasks", self.num_tasks, 2, 10**7)
        require_int("mdp_steps", self.mdp_steps, 1, 2**24)
        require_int("mdp_tasks", self.mdp_tasks, 2, 10**6)

    @property
    def num_steps(self) -> int:
        """T, pulls in a bandit: as many as the model trained here has room for."""
        return self.env.horizon

    @property
    def pretraining(self) -> Recipe:
        """The recipe of the model that is trained here."""
        layout = Prediction(layout="query-first")
        return Recipe(env=self.env, backbone=self.backbone, fit=self.fit, model=self.model, prediction=layout)
