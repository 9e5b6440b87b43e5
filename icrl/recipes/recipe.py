"""A recipe: which environment, pretraining data, objective, layout, model, optimisation and evaluation, as one tree.

Every part that a registry names brings its own flags, so ``--env RiverSwim-v0 --model s5 --filter lhf`` is a recipe.
What fits together is said in ``fits.py``.

Letters: H steps in an episode, C steps in a training context or window, W of them in a context of the evaluation, T
steps of an evaluation.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.agents.frozen_context import FrozenContextAgent
from icrl.agents.in_context import InContextAgent
from icrl.agents.planning import PlanningAgent
from icrl.agents.rolling_context import RollingContextAgent
from icrl.agents.sorted_context import SortedContextAgent
from icrl.agents.streaming_context import StreamingContextAgent
from icrl.core.fields import Checked, setting
from icrl.core.model_types import Layout, ModelConfig, Objective, Supervised
from icrl.core.registry import environments, layouts, models, objectives
from icrl.core.seeding import key_for
from icrl.core.settings import check_following, follows, named, replaced
from icrl.core.types import Agent, Environment
from icrl.datasets.pooled import kept_steps
from icrl.envs._recorded import RecordedEnvironment
from icrl.models._actor_critic import ActorCritic
from icrl.models._sizes import matched
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.objectives.dicp import DICP
from icrl.objectives.rl2 import RL2
from icrl.recipes.parts import (
    BY_RETURN,
    CONTEXTS,
    INDEPENDENT,
    LAST_EPISODE,
    ORACLE,
    ROLLING,
    SORTED,
    STREAM,
    TRIAL,
    WHOLE,
    DataSettings,
    Evaluation,
    Prediction,
)
from icrl.recipes.task_split import task_split
from icrl.recipes.variants import check_vary, grid
from icrl.training.fit import Fit
from icrl.training.learner import Learner, Work
from icrl.training.ppo import Reinforcement, Trials
from icrl.training.step import FitSettings

SHORT = 100  # steps of a context by default, where episodes are shorter
TRIAL_EPISODES = 8  # in a trial by default, where episodes are long
TOLERANCE = 0.06  # of the parameters: some models have no setting that is finer than the width


@dataclasses.dataclass(frozen=True)
class Recipe(Checked):
    """All settings of a pretraining experiment."""

    env: Environment = dataclasses.field(metadata=named(environments, recorded=RecordedEnvironment))
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    prediction: Prediction = dataclasses.field(default_factory=Prediction)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)
    model: str = setting("transformer", help="registered sequence model")
    parameters: int | None = setting(
        None,
        low=1,
        high=2**40,
        help="size of every model with embedding and head, within 6 %; none: as its settings say",
    )
    train_seeds: int = setting(1, low=1, high=1000, help="independently trained models of each variant")
    vary: tuple[str, ...] = setting((), help="what the variants differ in: NAME=a,b,c, several of them make a grid")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_following(self)
        self.fit.check_together(self.backbone.sequences_per_task)
        self.fit.check_seeds(self.train_seeds)
        self.fit.check_sharding(self.backbone)
        check_vary(self.vary)

    # --- what the environment decides ---

    @property
    def episode(self) -> int:
        """H."""
        return self.env.spec.max_steps_in_episode

    @property
    def needs_labels(self) -> bool:
        """Whether the objective predicts the optimal action."""
        return self.objective().needs_labels

    @property
    def is_reinforced(self) -> bool:
        """Whether the policies make their own data, by acting; C is then the steps of a trial."""
        return bool(objectives[self.prediction.objective].is_reinforced)

    @property
    def _is_short(self) -> bool:
        """Whether a context holds several episodes by default."""
        one_task = self.is_reinforced and self.env.num_tasks == 1  # nothing is left to find out behind an episode
        return self.episode <= SHORT and not self.env.spec.is_stationary_bandit and not one_task

    @property
    def context_steps(self) -> int:
        """C: as set, or whole episodes that fill SHORT steps, in bandits one episode; of a long one ``most_steps``."""
        if self.data.context_steps is not None:
            return self.data.context_steps
        if self._is_short:
            return self.episode * -(-SHORT // self.episode)
        if self.is_reinforced and self.env.num_tasks != 1 and not self.env.spec.is_stationary_bandit:
            return TRIAL_EPISODES * self.episode
        return min(self.episode, self.data.most_steps or self.episode)

    @property
    def history_steps(self) -> int:
        """Transitions in a history."""
        if self.data.history_steps is not None:
            return self.data.history_steps
        whole = 1000 // self.episode * self.episode
        return max(self.context_steps, whole) if self._is_short else self.context_steps

    @property
    def kept_steps(self) -> int:
        """Transitions of a history that training sees."""
        return len(kept_steps(self.history_steps, self.segment, self.data.keep_every))

    @property
    def segment(self) -> int:
        """Steps behind one return that a filter sees."""
        if self.data.segment is not None:
            return self.data.segment
        return self.episode if 2 * self.episode <= self.history_steps else max(1, self.history_steps // 20)

    @property
    def eval_steps(self) -> int:
        """T."""
        if self.evaluation.eval_steps is not None:
            return self.evaluation.eval_steps
        return self.context_steps if self.data.kind == CONTEXTS else self.history_steps

    @property
    def num_episodes(self) -> int:
        """Whole episodes in an evaluation."""
        return self.eval_steps // self.episode

    @property
    def window(self) -> int:
        """W."""
        return self.evaluation.window or self.context_steps

    @property
    def rules(self) -> tuple[str, ...]:
        """What decisions rest on; a model is evaluated under each of them."""
        if self.evaluation.context:
            return self.evaluation.context
        if self.is_reinforced:
            return (WHOLE if self.trial_episodes is None and self.eval_steps <= self.window else TRIAL,)
        if self.data.context_order == BY_RETURN and self.holds_episodes and not self.plans:
            return (SORTED,)
        return (WHOLE if self.eval_steps <= self.window else ROLLING,)

    @property
    def holds_episodes(self) -> bool:
        """Whether a context of the evaluation is several whole episodes, all as long."""
        return not self.env.spec.ends_early and self.window > self.episode and self.window % self.episode == 0

    @property
    def trial_episodes(self) -> int | None:
        """Episodes of a trial in training, behind which the memory begins anew; None: the C steps are as many."""
        return self.context_steps // self.episode if self.env.spec.ends_early else None

    @property
    def forget(self) -> int:
        """Transitions that leave a full window: an episode, if all are as long and fill it."""
        if self.evaluation.forget is not None:
            return self.evaluation.forget
        return self.episode if self.holds_episodes else max(1, self.window // 4)

    @property
    def plans(self) -> bool:
        """Whether the frozen models search the outcomes that they foretell."""
        return self.prediction.objective == "dicp" and self.evaluation.beam > 0

    @property
    def plan_after(self) -> int:
        """Transitions of context from which on a model plans."""
        return self.window if self.evaluation.plan_after is None else self.evaluation.plan_after

    def plan_reach(self, rule: str) -> int:
        """Transitions that a context and a plan behind it hold under ``rule``.

        Plans end with the episode, so those of a context of whole episodes end within it.
        """
        reach, episode = self.reach(rule), self.episode
        whole = not self.env.spec.ends_early and reach % episode == 0
        inside = whole and (rule == WHOLE or self.forget % episode == 0)
        return reach if inside or not self.plans else reach + self.evaluation.plan_horizon - 1

    @property
    def sources(self) -> tuple[str, ...]:
        """The agents that collect the data; none of data that are recorded elsewhere."""
        if self.data.source or self.is_reinforced or self.data.is_foreign:
            return self.data.source
        if self.env.spec.is_stationary_bandit:
            return ("dirichlet-mix",) if self.needs_labels else ("ucb1",)
        if self.needs_labels:
            return "uniform", self.label or "annealed-oracle"
        if self.env.spec.action_box is not None:
            return ("annealed-oracle",) if self.env.spec.knows_optimum else ("sac",)
        return ("q-learning",) if self.env.spec.num_states else ("linucb-disjoint",)

    @property
    def label(self) -> str:
        """The agent whose choices are predicted; "": the optimal actions, which may know what cannot be seen."""
        if self.data.label == ORACLE or not self.needs_labels:
            return ""
        hidden = not self.env.spec.observes_state and INDEPENDENT not in self.data.source
        return self.data.label or (self.env.spec.exact_policy if hidden else "")

    @property
    def task_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Numbers of the training and of the held-out tasks; None where tasks are drawn from the prior."""
        return task_split(self.env, self.data)

    @property
    def num_held_out(self) -> int:
        """Held-out tasks of the evaluation."""
        known = self.evaluation.eval_tasks if self.task_ids is None else len(self.task_ids[1])
        return min(self.evaluation.eval_tasks, known)

    @property
    def tasks_were_seen(self) -> bool:
        """Whether the family has so few tasks that models are trained on those they are evaluated in."""
        return self.env.num_tasks is not None and self.task_ids is None

    # --- what is made of the parts ---

    @property
    def layout(self) -> Layout:
        """The layout for this environment."""
        spec = self.env.spec if self.prediction.one_hot else dataclasses.replace(self.env.spec, obs_nvec=())
        head = self.prediction.action_head
        if self.is_reinforced and spec.action_box is not None:
            head = head or "squashed"  # the one of which samples have the density that is told of them
        made: Layout = layouts[self.prediction.layout](spec, **({"action_head": head} if head else {}))
        return made

    def objective(self) -> Objective:
        """The objective with its layout and its own settings."""
        item = objectives[self.prediction.objective]
        own = {each.name: getattr(self.prediction, each.name) for each in dataclasses.fields(item) if each.init}
        if "reward_values" in own and not self.prediction.reward_values:
            own["reward_values"] = tuple(map(str, self.env.reward_values))
        made: Objective = item(**{**own, "layout": self.layout})
        return made

    def new_policy(self, seed: int, train_seed: int) -> Policy:
        """An untrained network, with room for the longest context it will meet; a function of the two seeds."""
        if not self.is_reinforced:
            return untrained_policy(self.model, self.backbone, self.objective(), self.num_tokens, seed, train_seed)
        rngs = nnx.Rngs(key_for(seed, "init", train_seed))
        made = models[self.model](self.backbone, self.num_tokens, rngs)
        return Policy.split(ActorCritic(self.layout.token_dim, self.objective().num_outputs, made, rngs))

    @property
    def num_tokens(self) -> int:
        """Tokens of the longest context that a model meets."""
        return self.layout.num_tokens(max(self.context_steps, *map(self.plan_reach, self.rules)))

    def agent(self, policy: Policy, rule: str = "", greedy: bool = False) -> Agent:
        """The pretrained policy as an agent of the family's environments, under the first of its rules by default.

        ``greedy``, of the rule ``last-episode`` alone, plays the most likely action instead of sampling.
        """
        return self._planning(self.reader(policy, rule)) if self.plans else self.reader(policy, rule, greedy)

    def reader(self, policy: Policy, rule: str = "", greedy: bool = False) -> Agent:
        """As ``agent``, without planning."""
        rule = rule or self.rules[0]
        if rule == LAST_EPISODE:
            return FrozenContextAgent(policy=policy, layout=self.layout, max_steps=self.episode, greedy=greedy)
        reader = self._reader(policy, self.reach(rule))
        if rule == ROLLING:
            return RollingContextAgent(**reader, forget=self.forget)
        if rule == STREAM:
            return StreamingContextAgent(**reader)
        if rule == SORTED:
            return SortedContextAgent(**reader, episode_steps=self.episode)
        return InContextAgent(**reader, trial_episodes=self._in_trial if rule == TRIAL else None)

    def _planning(self, reader: Agent) -> PlanningAgent:
        objective, how = self.objective(), self.evaluation
        assert isinstance(objective, DICP)
        return PlanningAgent(
            reader=reader,
            dynamics=objective.dynamics,
            episode_steps=self.episode,
            after=self.plan_after,
            horizon=how.plan_horizon,
            beam=how.beam,
            samples=how.plan_samples,
            rule=how.plan_rule,
            score=how.plan_score,
        )

    def reach(self, rule: str) -> int:
        """Transitions that a context holds under ``rule``: the whole evaluation, or W."""
        return max(self.window, self.eval_steps) if rule == WHOLE else self.window

    @property
    def _in_trial(self) -> int:
        """Episodes that a context of the evaluation holds."""
        return self.window // self.episode

    def _reader(self, policy: Policy, max_steps: int) -> dict[str, Any]:
        is_recorded = self.env.is_recorded
        query = jnp.zeros(self.env.spec.obs_shape) if is_recorded else self.env.reset(jax.random.key(0))[0]
        return {"policy": policy, "query": query, "layout": self.layout, "max_steps": max_steps}

    def trials(self, objective: RL2) -> Trials:
        """What is compiled of a recipe that learns by acting; ``InputError`` for rollouts that do not fit."""
        return Trials(self.fit, objective, self.env, self.context_steps)

    def learner(self, seed: int, train_seed: int, batches: Any = None, held_out: Any = None) -> Learner:
        """What training seed ``train_seed`` trains; without ``batches`` a supervised one can only be restored."""
        policy, key = self.new_policy(seed, train_seed), key_for(seed, "objective", train_seed)
        objective = self.objective()
        if isinstance(objective, Supervised):
            return Fit(self.fit, policy, objective, batches, key, held_out, self.work)
        assert isinstance(objective, RL2)
        agent = InContextAgent(**self._reader(policy, self.context_steps), trial_episodes=self.trial_episodes)
        ids = None if self.task_ids is None else self.task_ids[0]
        return Reinforcement(self.trials(objective), agent, key, ids, self.work)

    @property
    def work(self) -> Work:
        """What a step of training is made of."""
        objective, steps = self.objective(), self.context_steps
        is_new = self.is_reinforced or (self.data.data == CONTEXTS and self.data.pool is None)
        if isinstance(objective, RL2):
            steps = objective.rollout_steps or steps
        tokens = self.fit.batch_size * self.layout.num_tokens(steps)
        return Work(tokens, self.fit.batch_size * steps if is_new else 0)

    def variants(self) -> dict[str, "Recipe"]:
        """The recipes that ``vary`` makes of this one, by label; only itself, called by its objective, if it is empty.

        Raises:
          InputError: an unknown setting, or a value that it cannot have.
        """
        return dict(_variants(self))


def untrained_policy(
    model: str, backbone: ModelConfig, objective: Objective, num_tokens: int, seed: int, train_seed: int
) -> Policy:
    """A new network of the registered ``model`` for ``objective``, with room for ``num_tokens``."""
    rngs = nnx.Rngs(key_for(seed, "init", train_seed))
    made, layout = models[model](backbone, num_tokens, rngs), objective.layout
    return Policy.split(TokenPolicy(layout.token_dim, objective.num_outputs, made, backbone.init_std, rngs))


@functools.lru_cache(maxsize=64)  # matching sizes traces each model many times
def _variants(recipe: Recipe) -> tuple[tuple[str, Recipe], ...]:
    plain = dataclasses.replace(recipe, vary=())
    if not recipe.vary:
        return ((recipe.prediction.objective.upper(), _of_size(plain)),)
    # all play for as long, whatever their own contexts: one whose memory is shorter rolls it
    plain = replaced(plain, {"eval_steps": recipe.eval_steps})
    made = grid(plain, recipe.vary)
    return tuple((label, _of_size(replaced(plain, values))) for label, values in made.items())


def _of_size(recipe: Recipe) -> Recipe:
    """The recipe with a model of as many parameters as it asks for."""
    if recipe.parameters is None:
        return recipe
    layout, outputs = recipe.layout, recipe.objective().num_outputs
    outside = layout.token_dim + 1 + outputs  # parameters of embedding and head for each feature
    tokens, wanted = recipe.num_tokens, recipe.parameters - outputs
    backbone = matched(recipe.model, wanted, recipe.backbone, tokens, outside, TOLERANCE)
    return dataclasses.replace(recipe, backbone=backbone)
