"""The settings of DPT on Dark Room, and what follows from them: layout, network, agents and streams of contexts."""

import dataclasses
from typing import Any

import jax
import numpy as np

from icrl.agents.frozen_context import FrozenContextAgent
from icrl.agents.rolling_context import RollingContextAgent
from icrl.core.errors import require
from icrl.core.fields import Checked, setting
from icrl.core.model_types import Layout, ModelConfig
from icrl.core.registry import agents, layouts, models
from icrl.core.settings import check_following, flat, follows
from icrl.datasets.contexts import Batches, MixedContexts, StoredContexts
from icrl.datasets.room_contexts import IndependentContexts, RolloutContexts, RoomContexts
from icrl.envs._splits import dpt_goal_split, shuffled_split
from icrl.envs.dark_room import DarkRoom
from icrl.models._token_policy import Policy
from icrl.objectives.dpt import DPT
from icrl.recipes.pretraining import check_pairs, untrained_policy
from icrl.training.step import FitSettings

INDEPENDENT = "independent"  # the source of contexts that nobody lived


@dataclasses.dataclass(frozen=True)
class DPTDarkRoomSettings(Checked):
    """All settings of the experiment."""

    env: DarkRoom
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    model: str = setting("transformer", help="registered sequence model")
    layout: str = setting(
        "pairs", help="registered layout: query-first asks one query a context (the paper's), pairs one a prefix"
    )
    one_hot: bool = setting(False, help="cells enter one-hot; else as two raw numbers, as in Lee et al.'s code")
    sources: tuple[str, ...] = setting(
        (INDEPENDENT,), help="sources of the contexts in turn: independent, or an agent that collects"
    )
    context_episodes: int = setting(1, low=1, high=1000, help="episodes in a pretraining context")
    skip_episodes: int = setting(
        0, low=0, high=2**20, help="most episodes of a source's rollout before the context begins"
    )
    elsewhere: float = setting(
        0.5, low=0.0, high=1.0, help="probability that a collected context is queried at any state instead of the next"
    )
    data: str = setting(
        "", help="folder of stored contexts (icrl collect) to train on; empty: generate them on the device"
    )
    pretrain_contexts: int | None = setting(
        None, low=1, high=2**31 - 1, help="size of the pool of contexts; none: fresh ones in every batch"
    )
    train_seeds: int = setting(1, low=1, high=1000, help="independently pretrained models")
    eval_episodes: int = setting(40, low=5, high=2**20, help="episodes of online evaluation in each held-out task")
    rollouts_per_task: int = setting(5, low=1, high=2**20, help="rollouts in each held-out task")
    offline_contexts: int = setting(
        25, low=1, high=2**20, help="contexts of each kind that are given in each held-out task"
    )
    window: int = setting(
        0, low=0, high=2**20, help="transitions in the rolling context of a second online evaluation; 0: none"
    )
    competitors: tuple[str, ...] = setting((), help="agents that learn the same tasks from scratch")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_following(self)
        check_pairs(self)
        layouts.entry(self.layout)
        for name in (*self.competitors, *self.players):
            agents.entry(name)
        require(len(self.sources) > 0, "sources", "none", f"{INDEPENDENT} or the names of agents")
        whole = self.window == 0 or (self.window > self.context_steps and self.window % self.context_steps == 0)
        require(whole, "window", self.window, f"0, or several whole episodes of {self.context_steps} steps")
        able = self.window == 0 or self.new_layout().num_prompt == 0
        require(able, "layout", self.layout, "one that reads a query at every step (pairs)", "or set --window 0")
        require(self.env.num_tasks >= 10, "size", self.env.size, "a room of at least ten cells")

    @property
    def context_steps(self) -> int:
        """C = H, transitions in a context that stands still."""
        return self.env.spec.max_steps_in_episode

    @property
    def pretrain_steps(self) -> int:
        """T, transitions in a context of the pretraining."""
        return self.context_episodes * self.context_steps

    @property
    def players(self) -> set[str]:
        """The agents that live contexts."""
        return set(self.sources) - {INDEPENDENT}

    @property
    def task_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Training goals and held-out goals: the published lists in the 10 x 10 room, else a shuffle of their sizes."""
        return dpt_goal_split() if self.env.size == 10 else shuffled_split(self.env.num_tasks, 0.8, 0)

    def new_layout(self) -> Layout:
        """The layout for this environment."""
        spec = self.env.spec if self.one_hot else dataclasses.replace(self.env.spec, obs_nvec=())
        return layouts[self.layout](spec)

    def objective(self) -> DPT:
        """The pretraining objective with its layout."""
        return DPT(self.new_layout())

    def new_policy(self, seed: int, train_seed: int) -> Policy:
        """An untrained network, with room for the longest context it will meet."""
        layout = self.new_layout()
        tokens = layout.num_tokens(max(self.pretrain_steps, self.window))
        return untrained_policy(self, layout, tokens, seed, train_seed)

    def agent(self, policy: Policy, greedy: bool = False) -> FrozenContextAgent:
        """The pretrained policy with the last episode as its context."""
        return FrozenContextAgent(policy=policy, layout=self.new_layout(), max_steps=self.context_steps, greedy=greedy)

    def rolling_agent(self, policy: Policy) -> RollingContextAgent:
        """The pretrained policy with the latest transitions as its context, those of the episode under way included."""
        query = self.env.reset(jax.random.key(0))[0]
        return RollingContextAgent(
            policy=policy, query=query, layout=self.new_layout(), max_steps=self.window, forget=self.context_steps
        )

    def batches(self, seed: int, train_seed: int) -> Batches:
        """Training batches, from the stored contexts if there are any, else generated as training goes."""
        pool, size, per_task = self.pretrain_contexts, self.fit.batch_size, self.backbone.sequences_per_task
        if not self.data:
            made = self.training_contexts(seed, train_seed)
            return Batches(made, size, seed + train_seed, pool, sequences_per_task=per_task)
        stored = self.stored_contexts()
        known = stored.num_tasks // per_task
        return Batches(stored, size, seed + train_seed, min(pool or known, known), sequences_per_task=per_task)

    def training_contexts(self, seed: int, train_seed: int) -> MixedContexts:
        """The stream that a training seed learns from."""
        return self.contexts(seed, f"pretrain/{train_seed}", per_task=self.backbone.sequences_per_task)

    def stored_contexts(self) -> StoredContexts:
        """The contexts in folder ``data``, refused if they are others than these settings make."""
        return StoredContexts.made_as(self.data, self.card(0))

    def card(self, seed: int) -> dict[str, Any]:
        """What makes a stored set of contexts."""
        return {
            "env": {"id": self.env.name, **flat(self.env)},
            "sources": list(self.sources),
            "seed": seed,
            "num_steps": self.pretrain_steps,
            "num_queries": self._num_queries(self.pretrain_steps),
            "skip_episodes": self.skip_episodes,
            "elsewhere": self.elsewhere,
            "sequences_per_task": self.backbone.sequences_per_task,
        }

    def _num_queries(self, num_steps: int) -> int:
        """One for each prefix if the layout can ask them."""
        return 1 if self.new_layout().num_prompt else num_steps + 1

    def contexts(self, seed: int, purpose: str, held_out: bool = False, per_task: int = 1) -> MixedContexts:
        """The stream of pretraining contexts of one purpose, ``per_task`` consecutive ones of one task."""
        steps = self.pretrain_steps
        made = {
            name: self.contexts_of(name, steps, seed, purpose, held_out, per_task=per_task) for name in self.sources
        }
        return MixedContexts(tuple(made[name] for name in self.sources))

    def contexts_of(
        self,
        source: str,
        num_steps: int,
        seed: int,
        purpose: str,
        held_out: bool,
        ordered: bool = False,
        per_task: int = 1,
    ) -> RoomContexts:
        """Contexts of one source."""
        ids, queries = np.asarray(self.task_ids[held_out]), self._num_queries(num_steps)
        asked = num_steps, seed, purpose, ordered, queries
        if source == INDEPENDENT:
            return IndependentContexts(self.env, ids, *asked, sequences_per_task=per_task)
        skip = 0 if ordered else self.skip_episodes
        rollout = num_steps + skip * self.context_steps
        fades = "anneal_steps" in agents[source].__dataclass_fields__  # an exploration that fades does so over the life
        agent = agents[source].for_env(self.env, **({"anneal_steps": rollout} if fades else {}))
        where = self.elsewhere, skip
        return RolloutContexts(self.env, ids, *asked, *where, source=agent, sequences_per_task=per_task)
