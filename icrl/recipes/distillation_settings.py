"""The settings of the algorithm-distillation experiments, and what the presets ``paper`` have in common."""

import dataclasses
from itertools import product
from typing import Any

import jax

from icrl.agents.rolling_context import RollingContextAgent
from icrl.core.errors import require, require_float, require_int
from icrl.core.registry import agents, filters, layouts, models
from icrl.core.settings import check_following, follows
from icrl.core.types import Environment, Layout, ModelConfig
from icrl.datasets.pooled import kept_steps
from icrl.envs._splits import shuffled_split
from icrl.models._token_policy import FrozenPolicy
from icrl.models.transformer import TransformerConfig
from icrl.objectives.ad import AD
from icrl.recipes.pretraining import check_pairs, untrained_policy
from icrl.training.step import FitSettings

CONDITIONS = ("clean", "noisy")


# Transformer and optimiser of Son et al. 2025 and Chen et al. 2025 on grids, for the presets "paper". Not theirs: the
# initial weights, and no dropout.
PAPER: dict[str, Any] = {
    "backbone": TransformerConfig(
        width=32, num_layers=4, num_heads=4, norm="rms", positions="rotary", mlp="swiglu", final_norm=False
    ),
    "fit": FitSettings(
        train_steps=50_000,
        batch_size=512,
        learning_rate=1e-2,
        warmup_steps=0,
        weight_decay=0.01,
        log_every=500,
        save_every=5000,
    ),
    "train_seeds": 5,
}


@dataclasses.dataclass(frozen=True)
class DistillationSettings:
    """All settings of a distillation experiment."""

    env: Environment
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    model: str = "transformer"  # registered sequence model
    layout: str = "pairs"  # registered layout: how a step becomes tokens
    source: str = "ppo"  # agent whose lives are distilled
    streams: bool = True  # histories of a task are parallel streams of one learner, not independent learners
    histories: int = 100  # histories of each training task
    history_steps: int = 1000  # transitions in a history
    noisy_fraction: float = 0.3  # of a task's histories that are a uniform player's, in the noisy data
    data: str = ""  # folder of the source's histories (icrl collect); empty: collect them in the output folder
    conditions: tuple[str, ...] = ("clean",)  # kinds of data compared: clean, noisy
    filters: tuple[str, ...] = ("keep-all",)  # filters compared
    keep_every: int = 1  # of every so many episodes of a history the first is kept
    window: int = 80  # transitions in a training window and in the context
    label_smoothing: float = 0.0  # of the source's actions
    mask_prob: float = 0.0  # of an input token in training
    train_fraction: float = 0.9  # of the family's tasks
    split_seed: int = 0  # which tasks those are
    train_tasks: int | None = None  # at most so many of them; none: all
    eval_tasks: int | None = None  # at most so many of the held-out tasks; none: all
    train_seeds: int = 1  # independently trained models of each variant
    eval_episodes: int = 50  # episodes lived in each held-out task
    eval_lives: int = 25  # lives in each held-out task
    competitors: tuple[str, ...] = ()  # agents that learn the same tasks from scratch

    def __post_init__(self) -> None:
        check_following(self)
        check_pairs(self)
        layouts.entry(self.layout)
        for name in (self.source, *self.competitors):
            agents.entry(name)
        require_int("histories", self.histories, 1, 2**20)
        require_int("history_steps", self.history_steps, 1, 2**24)
        require_float("noisy_fraction", self.noisy_fraction, 0.0, 1.0)
        for field, known in (("conditions", CONDITIONS), ("filters", tuple(filters))):
            names = getattr(self, field)
            distinct = len(names) > 0 and len(set(names)) == len(names) and set(names) <= set(known)
            require(distinct, field, ",".join(names), f"different ones of {', '.join(known)}")
        require_int("keep_every", self.keep_every, 1, 2**20)
        require_int("window", self.window, 2, 2**16)
        require(self.window <= self.kept_steps, "window", self.window, f"at most the {self.kept_steps} steps kept")
        for name in ("train_tasks", "eval_tasks"):
            if getattr(self, name) is not None:
                require_int(name, getattr(self, name), 1 if name == "train_tasks" else 2, 2**31 - 1)
        require_int("train_seeds", self.train_seeds, 1, 1000)
        require_int("eval_episodes", self.eval_episodes, 1, 2**20)
        require_int("eval_lives", self.eval_lives, 1, 2**20)
        reads_each = self.objective().layout.num_before > 0
        require(
            reads_each, "layout", self.layout, "a layout that reads the observation of every step: pairs, interleaved"
        )
        held_out = len(self.task_ids[1])
        require(held_out >= 2, "train_fraction", self.train_fraction, "a fraction that holds out at least two tasks")

    @property
    def episode(self) -> int:
        """H, steps in an episode."""
        return self.env.spec.max_steps_in_episode

    @property
    def kept_steps(self) -> int:
        """Transitions of a history that training sees."""
        return len(kept_steps(self.history_steps, self.episode, self.keep_every))

    @property
    def forget(self) -> int:
        """Transitions that leave a full context: an episode if it holds several, else one."""
        return self.episode if self.window > self.episode and self.window % self.episode == 0 else 1

    @property
    def task_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Training tasks and held-out tasks."""
        count = self.env.num_tasks
        require(count is not None, "env", self.env.name, "a family that numbers its tasks")
        train, held_out = shuffled_split(count, self.train_fraction, self.split_seed)  # type: ignore[arg-type]
        return train[: self.train_tasks], held_out[: self.eval_tasks]

    @property
    def variants(self) -> list[tuple[str, str]]:
        """(kind of data, filter) of every variant, in order."""
        return list(product(self.conditions, self.filters))

    def new_layout(self) -> Layout:
        """The layout for this environment."""
        return layouts[self.layout](self.env.spec)

    def objective(self) -> AD:
        """The objective with its layout."""
        return AD(self.new_layout(), self.label_smoothing, self.mask_prob)

    def new_policy(self, seed: int, train_seed: int) -> FrozenPolicy:
        """An untrained network; models of the same training seed begin alike, whatever their data."""
        layout = self.new_layout()
        return untrained_policy(self, layout, layout.num_tokens(self.window), seed, train_seed)

    def agent(self, policy: FrozenPolicy) -> RollingContextAgent:
        """The distilled policy as an agent of the family's environments."""
        query = self.env.reset(jax.random.key(0))[0]
        return RollingContextAgent(
            policy=policy, query=query, layout=self.new_layout(), max_steps=self.window, forget=self.forget
        )
