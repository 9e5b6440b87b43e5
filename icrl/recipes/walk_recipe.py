"""The settings of models that are trained on walks in aliased rooms: room, model, bottleneck, training, map, questions.

As ``Recipe`` is for agents; nobody acts here but the walker, who moves at random.

Letters: T steps of a training walk, S targets, O symbols, K actions.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx

from icrl.agents.uniform import Uniform
from icrl.core.errors import require
from icrl.core.fields import Checked, setting
from icrl.core.model_types import Layout, ModelConfig
from icrl.core.registry import layouts, models
from icrl.core.seeding import key_for
from icrl.core.settings import check_following, follows, replaced
from icrl.core.types import History
from icrl.datasets.contexts import Batches, ContextGenerator, OnlyHistories
from icrl.envs.aliased_room import AliasedRoom
from icrl.evaluation.cognitive_maps import endless
from icrl.models._observation_model import BottleneckConfig, ObservationModel
from icrl.models._token_policy import Policy
from icrl.objectives._next_observation import NextObservation
from icrl.planning.world_map import MapSettings
from icrl.recipes.variants import check_vary, grid
from icrl.training.fit import Fit
from icrl.training.learner import Work
from icrl.training.step import FitSettings

VALIDATION = 64  # walks behind the validation loss


@dataclasses.dataclass(frozen=True)
class Survey(Checked):
    """What the frozen models are asked."""

    eval_walks: int = setting(100, low=2, high=10**6, help="walks that no model was trained on")
    eval_steps: int = setting(200, low=2, high=2**16, help="moves of each")
    map_walks: int = setting(100, low=1, high=10**6, help="other walks, as long, from which the map is counted")
    journeys: int = setting(10, low=1, high=10**4, help="shortest-path queries in each evaluated walk, at most")
    clones: int = setting(
        32, low=0, high=1024, help="clones of each symbol in the clone-structured graph; 0: no graph is trained"
    )
    graph_walks: int = setting(50, low=1, high=10**5, help="walks that the clone-structured graph is trained on")
    graph_steps: int = setting(1000, low=2, high=10**6, help="moves of each")
    em_steps: int = setting(300, low=1, high=10**5, help="iterations of EM, and of Viterbi training, at most")
    pseudocount: float = setting(2e-3, low=0.0, open_low=True, help="added to every count of EM")


@dataclasses.dataclass(frozen=True)
class WalkRecipe(Checked):
    """All settings of an experiment on walks."""

    env: AliasedRoom
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    bottleneck: BottleneckConfig = dataclasses.field(default_factory=BottleneckConfig)
    mapping: MapSettings = dataclasses.field(default_factory=MapSettings)
    survey: Survey = dataclasses.field(default_factory=Survey)
    model: str = setting("transformer", help="registered sequence model")
    discrete: bool = setting(True, help="whether there is a bottleneck, from whose codes a map is made")
    walk_steps: int = setting(64, low=2, high=2**16, help="T, steps of a training walk")
    train_seeds: int = setting(1, low=1, high=1000, help="independently trained models of each variant")
    vary: tuple[str, ...] = setting((), help="what the variants differ in: NAME=a,b,c, several of them make a grid")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_following(self)
        size = (self.env.rows, self.env.columns)
        require(self.env.num_cells > 1, "rows, columns", size, "more than one cell, so that there are ways")
        codes, symbols = self.bottleneck.num_codes, self.env.num_symbols
        enough = codes**self.bottleneck.num_bottlenecks >= symbols
        require(enough or not self.discrete, "num_codes", codes, f"as many codes as the {symbols} symbols, or more")
        self.fit.check_together(self.backbone.sequences_per_task)
        self.fit.check_seeds(self.train_seeds)
        self.fit.check_sharding(self.backbone)
        last = self.survey.eval_steps - 1
        require(self.mapping.burn_in < last, "burn_in", self.mapping.burn_in, f"below the last step of a walk, {last}")
        check_vary(self.vary)

    @property
    def one_room(self) -> bool:
        """Whether all walks are in the same room, so that one map is made from all of them."""
        return self.env.colouring == "demo"

    @property
    def layout(self) -> Layout:
        """One token a step."""
        made: Layout = layouts["steps"](self.env.spec)
        return made

    @property
    def objective(self) -> NextObservation:
        """What is minimised."""
        return NextObservation(self.layout, self.env.num_symbols, self.bottleneck.num_targets)

    def new_policy(self, seed: int, train_seed: int) -> Policy:
        """An untrained network, a function of the two seeds, with room for a training and for an evaluation walk."""
        rngs, layout = nnx.Rngs(key_for(seed, "init", train_seed)), self.layout
        made = models[self.model](self.backbone, max(self.walk_steps, self.survey.eval_steps), rngs)
        facts = layout.token_dim, self.env.num_actions, self.env.num_symbols
        return Policy.split(ObservationModel(*facts, made, self.bottleneck, self.discrete, rngs))

    def walks(self, seed: int, purpose: str) -> ContextGenerator:
        """Walks of T + S moves by number."""
        env, steps = endless(self.env), self.walk_steps + self.bottleneck.num_targets
        together = self.backbone.sequences_per_task
        return ContextGenerator(env, Uniform.for_env(env), steps, seed, purpose, together)

    def batches(self, seed: int, train_seed: int) -> Callable[[int], History]:
        """Training batches as a function of the step; every walk is new."""
        walks, together = self.walks(seed, f"pretrain/{train_seed}"), self.backbone.sequences_per_task
        return OnlyHistories(Batches(walks, self.fit.batch_size, seed, sequences_per_task=together))

    def held_out(self, seed: int) -> History:
        """Walks that no model is trained on."""
        return self.walks(seed, "validation").fetch(np.arange(VALIDATION)).history

    def learner(self, seed: int, train_seed: int, batches: Any = None, held_out: Any = None) -> Fit:
        """What training seed ``train_seed`` trains; without ``batches`` it can only be restored."""
        tokens = self.fit.batch_size * self.walk_steps
        key, policy = key_for(seed, "objective", train_seed), self.new_policy(seed, train_seed)
        return Fit(self.fit, policy, self.objective, batches, key, held_out, Work(tokens, tokens))

    def variants(self) -> dict[str, "WalkRecipe"]:
        """The recipes that ``vary`` makes of this one, by label; only itself, TDB or its model, if it is empty.

        Raises:
          InputError: an unknown setting, or a value that it cannot have.
        """
        return dict(_variants(self))


@functools.lru_cache(maxsize=64)
def _variants(settings: WalkRecipe) -> tuple[tuple[str, WalkRecipe], ...]:
    plain = dataclasses.replace(settings, vary=())
    if not settings.vary:
        return (("TDB" if settings.discrete else settings.model, plain),)
    return tuple((label, replaced(plain, values)) for label, values in grid(plain, settings.vary).items())
