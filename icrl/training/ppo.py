"""RL^2 by proximal policy optimisation: a policy with memory that makes its own data, one rollout a step of training.

A rollout is ``interact`` with the policy as the agent that it will be when it is frozen, in B tasks side by side. The
tokens of the rollout are then read again in one go, from the memory that the agent had in front of it: what the update
differentiates is what acted, so the first probability ratios are 1.

Letters: B environments, C steps of a trial, n of a rollout, L tokens of it, K actions.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from icrl.agents.in_context import InContextAgent
from icrl.core.errors import require
from icrl.core.interact import Meeting, first_meeting, interact
from icrl.core.precision import exact_products, in_32_bits
from icrl.core.seeding import keys_for
from icrl.core.types import Array, Environment, Interaction
from icrl.models._actor_critic import ActorCritic
from icrl.models._token_policy import Policy
from icrl.objectives.rl2 import RL2
from icrl.training.learner import UNKNOWN, Learner, Told, Work
from icrl.training.step import FitSettings, TrainState

RECORDS = ("trial_return", "entropy", "kl", "value_loss")  # what a step tells besides its loss
EPSILON = 1e-5  # of Adam, as in the implementations of PPO that its published numbers come from


class Samples(NamedTuple):
    """A rollout as the update reads it, one row an environment."""

    tokens: Array  # [B, L, D] float32
    start: Array | None  # [B, L] bool, tokens that begin a context; None: only the first does
    carry: Any  # memory in front of the rollout, leading axis [B]; None: an empty past
    action: Array  # [B, n] int32, or [B, n, A] float32 in a box
    log_prob: Array  # [B, n] float32, of the actions under the policy that acted
    value: Array  # [B, n] float32, of that policy
    advantage: Array  # [B, n] float32
    target: Array  # [B, n] float32, lambda-returns


@dataclasses.dataclass(frozen=True)
class Trials:
    """What is compiled: the settings of the optimiser and of the objective, the environment, and C."""

    settings: FitSettings
    objective: RL2
    env: Environment
    trial_steps: int

    def __post_init__(self) -> None:
        batch, parts, steps = self.settings.batch_size, self.objective.minibatches, self.trial_steps
        require(batch % parts == 0, "minibatches", parts, f"a divisor of batch_size {batch}")
        whole = steps % self.rollout_steps == 0
        require(whole, "rollout_steps", self.rollout_steps, f"a divisor of a trial's {steps} steps")

    @property
    def rollout_steps(self) -> int:
        """Steps of a rollout, n."""
        return self.objective.rollout_steps or self.trial_steps

    @property
    def rollouts(self) -> int:
        """Rollouts in a trial."""
        return self.trial_steps // self.rollout_steps

    @property
    def updates(self) -> int:
        """Steps of the optimiser in a step of training."""
        return self.objective.num_epochs * self.objective.minibatches

    @property
    def reward_scale(self) -> float:
        """As set, or 1 / (r_max x the steps that a discounted sum is about)."""
        if self.objective.reward_scale is not None:
            return self.objective.reward_scale
        seen = min(self.trial_steps, 1 / max(1 - self.objective.discount, 1e-9))
        return 1 / ((1.0 if self.env.r_max is None else self.env.r_max) * seen)

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW on gradients that are cut, at the learning rate of the step of training that an update is of."""
        rate = self.settings.learning_rate_at()
        adam = optax.adamw(
            lambda count: rate(count // self.updates), eps=EPSILON, weight_decay=self.settings.weight_decay
        )
        return optax.chain(optax.clip_by_global_norm(self.objective.max_grad), adam)

    def tasks(self, key: Array, ids: Array | None) -> Any:
        """A task for each environment, of the family's prior or among those with the numbers ``ids``."""
        keys = keys_for(key, jnp.arange(self.settings.batch_size))
        if ids is None:
            return jax.vmap(self.env.sample_task)(keys)
        number = jax.vmap(lambda k: jax.random.randint(k, (), 0, ids.shape[0], jnp.int32))(keys)
        return jax.vmap(self.env.task)(ids[number])


@dataclasses.dataclass(frozen=True, eq=False)
class Reinforcement(Learner):
    """A policy that learns by acting.

    Args:
      trials: what is compiled.
      agent: the untrained policy, that of an ``ActorCritic``, as the agent that it will be.
      key: typed key of tasks, environments, choices and the order of minibatches.
      task_ids: numbers of the tasks to train in; None: the family's prior.
      work: what a step is made of.
    """

    trials: Trials
    agent: InContextAgent
    key: Array
    task_ids: tuple[int, ...] | None = None
    work: Work = UNKNOWN

    @property
    def settings(self) -> FitSettings:  # type: ignore[override]
        """How to optimise."""
        return self.trials.settings

    @property
    def template(self) -> Policy:  # type: ignore[override]
        """With its initial parameters."""
        return self.agent.policy

    def initial_state(self) -> TrainState:
        params = jax.tree.map(jnp.array, self.template.params)  # a copy: a step donates its input
        recent = jnp.zeros(self.settings.log_every, jnp.float32)
        more = {"records": {name: jnp.zeros_like(recent) for name in RECORDS}, "meeting": self._no_meeting()}
        return TrainState(params, {}, self.trials.optimizer().init(params), jnp.int32(0), recent, more)

    def step(self, state: TrainState, number: int) -> tuple[TrainState, Told]:
        del number
        ids = None if self.task_ids is None else jnp.asarray(self.task_ids, jnp.int32)
        return _step(self.trials, state, self.agent, ids, self.key)

    def report(self, state: TrainState, window: np.ndarray) -> Told:
        kept = {name: jnp.array(values) for name, values in state.more["records"].items()}  # a step donates its input
        return {name: partial(_mean, values, window) for name, values in kept.items()}

    def _no_meeting(self) -> Any:
        """Room for what goes on from rollout to rollout; nothing where a rollout is a trial."""
        if self.trials.rollouts == 1:
            return ()
        ids = None if self.task_ids is None else jnp.asarray(self.task_ids, jnp.int32)
        met = jax.eval_shape(partial(_first_meetings, self.trials), self.agent, ids, self.key, jnp.int32(0))[1]
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), met)


def _mean(values: Array, window: np.ndarray) -> float:
    return float(np.asarray(values, np.float64)[window].mean())


@partial(jax.jit, static_argnames=("trials",), donate_argnames=("state",))
@in_32_bits
@exact_products
def _step(
    trials: Trials, state: TrainState, agent: InContextAgent, ids: Array | None, key: Array
) -> tuple[TrainState, Told]:
    """The state after one more rollout and its updates."""
    key_rollout, key_order = (jax.random.fold_in(jax.random.fold_in(key, purpose), state.step) for purpose in (1, 2))
    policy = agent.policy.replace(params=state.params)
    agent = agent.replace(policy=policy)  # type: ignore[attr-defined]
    lived, start, tasks_end = rollout(trials, agent, ids, key, key_rollout, state.step, state.more["meeting"])
    samples = samples_of(trials, agent, lived, start, tasks_end)
    params, opt_state, told = _updated(trials, policy, state.opt_state, samples, key_order)
    told["trial_return"] = _trial_return(trials, lived)
    slot = state.step % trials.settings.log_every
    records = {name: values.at[slot].set(told[name]) for name, values in state.more["records"].items()}
    meeting = () if trials.rollouts == 1 else Meeting(lived.agent_state, lived.next_state, lived.next_obs)
    recent = state.recent.at[slot].set(told["loss"])
    more = {"records": records, "meeting": meeting}
    state = TrainState(params, {}, opt_state, state.step + 1, recent, more)
    return state, {"gradient_norm": told["gradient_norm"]}


def _first_meetings(
    trials: Trials, agent: InContextAgent, ids: Array | None, key: Array, trial: Array
) -> tuple[Any, Meeting]:
    """The tasks [B] of trial number ``trial``, and the policy in front of each."""
    key_tasks, key_begin = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 0), trial))
    tasks = trials.tasks(key_tasks, ids)
    keys = jax.random.split(key_begin, trials.settings.batch_size)
    return tasks, jax.vmap(lambda k, task: first_meeting(k, trials.env, task, agent))(keys, tasks)


def rollout(
    trials: Trials, agent: InContextAgent, ids: Array | None, key: Array, key_rollout: Array, step: Array, meeting: Any
) -> tuple[Interaction, Meeting, Array]:
    """The rollout of ``step`` [] int32, from 0: what happened [B, n, ...], where it began, and if it ends its trial."""
    trial, part = step // trials.rollouts, step % trials.rollouts
    tasks, start = _first_meetings(trials, agent, ids, key, trial)
    if trials.rollouts > 1:
        start = jax.tree.map(partial(jnp.where, part == 0), start, meeting)
    keys = jax.random.split(key_rollout, trials.settings.batch_size)

    def one(key_one: Array, task: Any, begin: Meeting) -> Interaction:
        return interact(key_one, trials.env, task, agent, trials.rollout_steps, start=begin)

    return jax.vmap(one)(keys, tasks, start), start, part == trials.rollouts - 1


def samples_of(trials: Trials, agent: InContextAgent, lived: Interaction, start: Meeting, is_last: Array) -> Samples:
    """What an update reads of a rollout; ``is_last``: nothing of its tasks follows, [] bool."""
    layout, history, length = trials.objective.layout, lived.history, agent.trial_episodes
    over = history.terminated | history.truncated
    ended = jnp.zeros_like(over)
    if length is not None:
        ended = over & ((start.agent_state.episodes[:, None] + jnp.cumsum(over, axis=1)) % length == 0)
    begins = jnp.pad(ended, ((0, 0), (1, 0)))  # [B, n + 1]
    queries = jnp.concatenate([history.obs, lived.next_obs[:, None]], axis=1)
    tokens = jax.vmap(layout.sequence)(history, queries, begins, start.agent_state.past)
    first = layout.decisions(trials.rollout_steps) - (layout.num_before - 1)  # tokens in front of which a step begins
    flags = None if length is None else jnp.zeros(tokens.shape[:2], bool).at[:, first].set(begins)
    carry = None if trials.rollouts == 1 else start.agent_state.carry
    empty = jnp.zeros(history.reward.shape, jnp.float32)
    read = Samples(tokens, flags, carry, history.action, empty, empty, empty, empty)
    logits, value = jax.lax.map(partial(_read, trials, agent.policy, agent.policy.params), _parts(trials, read))
    logits, value = (x.reshape(-1, *x.shape[2:]) for x in (logits, value))
    cut = ended if trials.objective.across_episodes else over
    cut = cut.at[:, -1].set(cut[:, -1] | is_last)
    advantage = _advantages(trials, history.reward, value, cut)
    log_prob, value = layout.head.log_prob(logits[:, :-1], history.action), value[:, :-1]
    return read._replace(log_prob=log_prob, value=value, advantage=advantage, target=advantage + value)


def _trial_return(trials: Trials, lived: Interaction) -> Array:
    """Mean reward of C steps or, where episodes end early, of as many episodes as C steps hold at least."""
    if not trials.env.spec.ends_early:
        return trials.rollouts * jnp.sum(lived.curves.reward, 1).mean()
    episodes = jnp.sum(lived.history.terminated | lived.history.truncated)
    count = trials.trial_steps // trials.env.spec.max_steps_in_episode
    return count * jnp.sum(lived.curves.reward) / jnp.maximum(episodes, 1)


def _parts(trials: Trials, samples: Samples) -> Samples:
    """The rows of the samples in minibatches: [M, B / M, ...]."""
    return jax.tree.map(lambda rows: rows.reshape(trials.objective.minibatches, -1, *rows.shape[1:]), samples)


def _read(trials: Trials, policy: Policy, params: Any, batch: Samples) -> tuple[Array, Array]:
    """Logits [b, n + 1, K] and values [b, n + 1] at the decisions of some rows."""
    network: ActorCritic = policy.replace(params=params).merge()  # type: ignore[attr-defined]
    at = trials.objective.layout.decisions(trials.rollout_steps)
    logits, value = jax.vmap(network.with_value)(batch.tokens, batch.start, batch.carry)
    return logits[:, at], value[:, at]


def _advantages(trials: Trials, reward: Array, value: Array, cut: Array) -> Array:
    """Generalised advantages [B, n] (Schulman et al. 2016, equation 16) for values [B, n + 1].

    Nothing counts from behind a step that is ``cut`` [B, n], the last of its trial.
    """
    objective, goes_on = trials.objective, 1.0 - cut
    error = trials.reward_scale * reward + objective.discount * goes_on * value[:, 1:] - value[:, :-1]
    decay = objective.discount * objective.gae_lambda * goes_on

    def backwards(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        advantage = step[0] + step[1] * later
        return advantage, advantage

    return jax.lax.scan(backwards, jnp.zeros_like(error[:, 0]), (error.T, decay.T), reverse=True)[1].T


def _updated(
    trials: Trials, policy: Policy, opt_state: Any, samples: Samples, key: Array
) -> tuple[Any, Any, dict[str, Array]]:
    """Parameters and optimiser after all passes over a rollout, and the means of what the updates tell."""
    rows, epochs = trials.settings.batch_size, trials.objective.num_epochs
    orders = jax.vmap(lambda k: jax.random.permutation(k, rows))(jax.random.split(key, epochs))
    batches = orders.reshape(epochs * trials.objective.minibatches, -1)

    def one(carry: tuple[Any, Any], index: Array) -> tuple[tuple[Any, Any], dict[str, Array]]:
        params, opt_state = carry
        batch = jax.tree.map(lambda field: field[index], samples)
        (_, told), gradient = jax.value_and_grad(partial(loss_of, trials, policy), has_aux=True)(params, batch)
        told["gradient_norm"] = optax.tree.norm(gradient)  # in front of the cut
        updates, opt_state = trials.optimizer().update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), told

    (params, opt_state), told = jax.lax.scan(one, (policy.params, opt_state), batches)
    return params, opt_state, jax.tree.map(jnp.mean, told)


def loss_of(trials: Trials, policy: Policy, params: Any, batch: Samples) -> tuple[Array, dict[str, Array]]:
    """PPO's loss of a minibatch (Schulman et al. 2017, equation 9; values clipped as in its code), and its parts."""
    objective = trials.objective
    logits, value = _read(trials, policy, params, batch)
    logits, value = logits[:, :-1], value[:, :-1]
    advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
    change = objective.layout.head.log_prob(logits, batch.action) - batch.log_prob
    ratio = jnp.exp(change)
    clipped = jnp.clip(ratio, 1.0 - objective.clip, 1.0 + objective.clip)
    surrogate = jnp.minimum(ratio * advantage, clipped * advantage).mean()
    near = batch.value + jnp.clip(value - batch.value, -objective.clip, objective.clip)
    value_loss = 0.5 * jnp.maximum(jnp.square(value - batch.target), jnp.square(near - batch.target)).mean()
    entropy = objective.layout.head.entropy(logits).mean()
    loss = -surrogate + objective.value_weight * value_loss - objective.entropy_weight * entropy
    return loss, {"loss": loss, "value_loss": value_loss, "entropy": entropy, "kl": (ratio - 1 - change).mean()}
