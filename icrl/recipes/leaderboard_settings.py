"""Settings of the leaderboard: who plays where, for how long, and the model that is trained for it."""

import dataclasses

from icrl.core.fields import setting
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
    model: str = setting("transformer", help="registered sequence model that is trained here")
    model_run: str = setting("", help="output folder of a finished run whose model plays instead; empty: train one")
    worlds: tuple[str, ...] = setting((), help="registered environments; none named: all")
    players: tuple[str, ...] = setting((), help="registered agents; none named: all")
    max_states: int = setting(100, low=1, high=4096, help="worlds with more states are left out")
    slow_players: tuple[str, ...] = setting(
        (), help="agents that stay out of worlds with more than slow_states, unless in players"
    )
    slow_states: int = setting(30, low=0, high=2**31 - 1, help="states of a world that slow_players still enter")
    collectors: tuple[str, ...] = setting(COLLECTORS, help="agents that collect data, and compete only if in players")
    num_tasks: int = setting(1000, low=2, high=10**7, help="bandits, each with every agent")
    mdp_steps: int = setting(400, low=1, high=2**24, help="steps in worlds with states, rounded up to whole episodes")
    mdp_tasks: int = setting(24, low=2, high=10**6, help="tasks of each world with states")

    train_seeds = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_following(self)
        for name in self.worlds:
            environments.entry(name)
        for name in (*self.players, *self.slow_players, *self.collectors):
            agents.entry(name)

    @property
    def num_steps(self) -> int:
        """T, pulls in a bandit: as many as the model trained here has room for."""
        return self.env.horizon

    @property
    def pretraining(self) -> Recipe:
        """The recipe of the model that is trained here."""
        layout = Prediction(layout="query-first")
        return Recipe(env=self.env, backbone=self.backbone, fit=self.fit, model=self.model, prediction=layout)
