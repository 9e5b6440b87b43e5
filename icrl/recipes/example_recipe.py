"""The settings of models that are trained on families of examples: the family, how many of its tasks, model, training.

As ``Recipe`` is for environments; there are no sources, objectives or competitors to choose.

Letters: M tasks of a pool, K examples of a sequence, L tokens.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from icrl.core.errors import InputError, near_names, require, shown
from icrl.core.fields import Checked, setting
from icrl.core.model_types import ModelConfig
from icrl.core.registry import Registry, models
from icrl.core.resources import Need, require_memory
from icrl.core.seeding import key_for
from icrl.core.settings import check_following, follows, named, replaced
from icrl.datasets.examples import READ_AT_ONCE, ExampleGenerator, Framed, framed
from icrl.envs._examples import ExampleFamily
from icrl.envs._linear_regression import LinearRegression
from icrl.envs.balls_and_urns import BallsAndUrns
from icrl.models._sizes import matched, size_of
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.objectives._next_outcome import NextOutcome
from icrl.recipes.preflight import COPIES, FLOAT, STREAMS, check_model
from icrl.recipes.recipe import TOLERANCE
from icrl.recipes.variants import check_vary, grid, split_vary
from icrl.training.fit import Fit
from icrl.training.learner import Work
from icrl.training.step import FitSettings

POOL = "task_pool"
FAMILIES = {"regression": LinearRegression, "urns": BallsAndUrns}
VALIDATION = 128  # sequences behind the distances that are logged in training


class _NoOthers(Registry):
    """Of families there are those in ``FAMILIES``: who names another is told so."""

    def __init__(self) -> None:
        super().__init__("family of examples", "icrl.envs")

    def resolve(self, name: str) -> tuple[str, dict[str, Any]]:
        if name not in FAMILIES:
            raise InputError(f"unknown family {shown(name)}; {near_names(name, FAMILIES)}")
        return name, {}


@dataclasses.dataclass(frozen=True)
class ExampleRecipe(Checked):
    """All settings of a pretraining experiment on examples."""

    family: ExampleFamily = dataclasses.field(metadata=named(_NoOthers(), **FAMILIES))
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    task_pool: int | None = setting(
        None, low=1, high=2**31 - 1, help="M, tasks that sequences are drawn in again and again; none: each has its own"
    )
    model: str = setting("transformer", help="registered sequence model")
    parameters: int | None = setting(
        None,
        low=1,
        high=2**40,
        help="size of every model with embedding and head, within 6 %; none: as its settings say",
    )
    eval_tasks: int = setting(1000, low=2, high=10**6, help="sequences of the pool, and of fresh tasks, in evaluation")
    train_seeds: int = setting(1, low=1, high=1000, help="independently trained models of each variant")
    vary: tuple[str, ...] = setting((), help="what the variants differ in: NAME=a,b,c, several of them make a grid")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_following(self)
        self.fit.check_together(self.backbone.sequences_per_task)
        self.fit.check_seeds(self.train_seeds)
        self.fit.check_sharding(self.backbone)
        check_vary(self.vary)

    def examples(self, seed: int, train_seed: int) -> ExampleGenerator:
        """The sequences that training seed ``train_seed`` learns from."""
        together = self.backbone.sequences_per_task
        return ExampleGenerator(self.family, seed, f"pretrain/{train_seed}", self.task_pool, together)

    def fresh(self, seed: int, purpose: str = "fresh") -> ExampleGenerator:
        """Sequences each of a task of its own, which no pool has."""
        return ExampleGenerator(self.family, seed, purpose)

    def validation(self, seed: int, train_seed: int) -> Framed:
        """Sequences of fresh tasks, none of them of the evaluation, beside both predictors."""
        fresh = self.fresh(seed, "validation").fetch(np.arange(VALIDATION, dtype=np.uint32))
        return framed(self.family, fresh, self.examples(seed, train_seed).pool())

    def new_policy(self, seed: int, train_seed: int) -> Policy:
        """An untrained network, a function of the two seeds: models of other pools begin alike."""
        rngs, family = nnx.Rngs(key_for(seed, "init", train_seed)), self.family
        made = models[self.model](self.backbone, family.num_tokens, rngs)
        return Policy.split(TokenPolicy(family.token_dim, family.num_outputs, made, self.backbone.init_std, rngs))

    @property
    def objective(self) -> NextOutcome:
        """What is minimised."""
        return NextOutcome(self.family)

    def learner(self, seed: int, train_seed: int, batches: object = None, held_out: object = None) -> Fit:
        """What training seed ``train_seed`` trains; without ``batches`` it can only be restored."""
        work = Work(tokens=self.fit.batch_size * self.family.num_tokens)
        key, policy = key_for(seed, "objective", train_seed), self.new_policy(seed, train_seed)
        return Fit(self.fit, policy, self.objective, batches, key, held_out, work)  # type: ignore[arg-type]

    @property
    def num_parameters(self) -> int:
        """Of the whole network."""
        inside = size_of(self.model, self.backbone, self.family.num_tokens).parameters
        return inside + self._per_feature * self.backbone.width + self.family.num_outputs

    @property
    def state_bytes(self) -> int:
        """What the model remembers of one sequence, in bytes; a cache has room for all of it."""
        return size_of(self.model, self.backbone, self.family.num_tokens).state_bytes

    @property
    def _per_feature(self) -> int:
        """Parameters of embedding and head for each feature of the residual stream."""
        return self.family.token_dim + 1 + self.family.num_outputs

    def variants(self) -> dict[str, "ExampleRecipe"]:
        """The recipes that ``vary`` makes of this one, by label; only itself, called by its model, if it is empty.

        Raises:
          InputError: an unknown setting, or a value that it cannot have.
        """
        return dict(_variants(self))

    def of_size(self) -> "ExampleRecipe":
        """The recipe with a model of as many parameters as it asks for."""
        if self.parameters is None:
            return self
        wanted, tokens = self.parameters - self.family.num_outputs, self.family.num_tokens
        backbone = matched(self.model, wanted, self.backbone, tokens, self._per_feature, TOLERANCE)
        return dataclasses.replace(self, backbone=backbone)

    def check(self) -> None:
        """Raise ``InputError`` for what cannot be compared, ``ResourceError`` for what does not fit into memory."""
        check_model(self.model)
        hint = "or --task-pool M: a model is compared with the posterior over its pool"
        require(self.task_pool is not None, POOL, self.task_pool, "task_pool=M,...", hint)
        stream = min(self.fit.batch_size, 4) * self.family.num_tokens * self.backbone.width * FLOAT
        one = COPIES * FLOAT * self.num_parameters + STREAMS * self.backbone.num_layers * stream
        training = self.fit.seeds_together * one
        task = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(self.family.sample_task, jax.random.key(0))))
        reading = FLOAT * (self.task_pool or 0) * (task + 2 * READ_AT_ONCE)
        require_memory(
            Need("training", training, "width, num_layers, batch_size, seeds_together or horizon"),
            Need("the predictor that memorises", reading, POOL),
        )


def by_model(settings: ExampleRecipe) -> dict[str, dict[int, str]]:
    """The labels of the variants by what they differ in besides the pool, and by the size of the pool.

    Raises:
      InputError: pools that are not the same for all models, or variants of another family.
    """
    for each in settings.vary:
        names = split_vary(each)[0]
        require(POOL not in names or names == (POOL,), "vary", each, f"{POOL}=M,... by itself, so that all have it")
    found: dict[str, dict[int, str]] = {}
    for label, recipe in settings.variants().items():
        same = recipe.family == settings.family
        require(same, "vary", label, "settings other than the family's: all variants see the same tasks")
        others = [part for part in label.split(", ") if not part.startswith(f"{POOL.replace('_', ' ')} ")]
        name = ", ".join(part.removeprefix("model ") for part in others)
        found.setdefault(name or recipe.model, {})[recipe.task_pool or 0] = label
    return {name: dict(sorted(pools.items())) for name, pools in found.items()}


@functools.lru_cache(maxsize=64)  # matching sizes traces each model many times
def _variants(settings: ExampleRecipe) -> tuple[tuple[str, ExampleRecipe], ...]:
    plain = dataclasses.replace(settings, vary=())
    if not settings.vary:
        return ((settings.model, plain.of_size()),)
    made = grid(plain, settings.vary)
    return tuple((label, replaced(plain, values).of_size()) for label, values in made.items())
