"""Contexts with a query at every prefix: independent transitions, or rollouts of an agent.

Independent transitions show each state as often as any other. A rollout shows a few of them again and again, in order,
from the start of an episode: a model that is to learn from its own past must have seen such contexts as well.
"""

import abc
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import require, require_float, require_int
from icrl.core.interact import interact, replay
from icrl.core.seeding import key_for, keys_for
from icrl.core.threefry import below, bits, split
from icrl.core.types import Agent, Array, Contexts, Environment, History


@dataclasses.dataclass(frozen=True, eq=False)
class RoomContexts(abc.ABC):
    """Contexts of T = ``num_steps`` transitions, each a function of (seed, purpose, its id).

    A context is of a task drawn from ``task_ids`` [N]; it has one query, for all prefixes, or with ``num_queries`` =
    T + 1 one for each. ``sequences_per_task`` consecutive ids are of one task.
    """

    env: Environment
    task_ids: np.ndarray | None  # numbers of the family's tasks; None: each context has a task drawn from the prior
    num_steps: int
    seed: int
    purpose: str = "pretrain"
    num_queries: int = 1  # Q: 1 or num_steps + 1
    sequences_per_task: int = dataclasses.field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        require_int("context_steps", self.num_steps, 1, 2**24)
        one_or_each = self.num_queries in (1, self.num_steps + 1)
        require(one_or_each, "num_queries", self.num_queries, f"1 or {self.num_steps + 1}, one for each prefix")

    def fetch(self, ids: np.ndarray) -> Contexts:
        """The contexts of ids [B] uint32, generated on the device in one jitted call."""
        return self._generate(jnp.asarray(ids, jnp.uint32))

    @functools.partial(jax.jit, static_argnames=("self",))
    def in_tasks(self, ids: Array, tasks: Any) -> Contexts:
        """The contexts of ids [B] in given ``tasks``, parameters with a leading axis [B]."""
        key_rollouts = keys_for(key_for(self.seed, f"{self.purpose}/life"), ids)
        return jax.vmap(self._context)(key_rollouts, tasks)

    @functools.partial(jax.jit, static_argnames=("self",))
    def _generate(self, ids: Array) -> Contexts:
        keys = keys_for(key_for(self.seed, f"{self.purpose}/task"), ids // self.sequences_per_task)
        if self.task_ids is None:
            return self.in_tasks(ids, jax.vmap(self.env.sample_task)(keys))
        known = jnp.asarray(self.task_ids, jnp.int32)
        drawn = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(known), jnp.int32))(keys)
        return self.in_tasks(ids, jax.vmap(self.env.task)(known[drawn]))

    def _context(self, key: Array, task: Any) -> Contexts:
        history, query, states = self._seen(key, task)
        asked = jax.tree.map(lambda leaf: leaf[-self.num_queries :], (query, states))
        return Contexts(history, asked[0], jax.vmap(self.env.optimal_action, in_axes=(None, 0))(task, asked[1]))

    @abc.abstractmethod
    def _seen(self, key: Array, task: Any) -> tuple[History, Array, Any]:
        """What is seen in ``task``: history [T, ...], query observations [T + 1, *O] and their states [T + 1, ...]."""

    def _anywhere(self, key: Array, task: Any) -> tuple[Array, Any]:
        """Observations and states [T + 1, ...], each drawn uniformly."""
        keys = split(key, self.num_steps + 1)
        return jax.vmap(self.env.random_state, in_axes=(0, None))(keys, task)


@dataclasses.dataclass(frozen=True, eq=False)
class IndependentContexts(RoomContexts):
    """Independent transitions: state and action uniform, not a walk (Lee et al. 2023, A.4, its code).

    Queries are uniform states too. When there is one for each prefix, they are the very states of the transitions to
    come (which are independent of those that went before) and one more, as in a rollout.
    """

    def _seen(self, key: Array, task: Any) -> tuple[History, Array, Any]:
        key_states, key_actions, key_steps = split(key, 3)
        obs, states = self._anywhere(key_states, task)
        acted_on = jax.tree.map(lambda leaf: leaf[:-1], (obs, states))
        if box := self.env.spec.action_box:
            actions = jax.vmap(box.draw)(split(key_actions, self.num_steps))
        else:
            actions = below(bits(key_actions, (self.num_steps,)), self.env.num_actions)
        step = functools.partial(self._transition, task)
        return jax.vmap(step)(split(key_steps, self.num_steps), actions, *acted_on), obs, states

    def _transition(self, task: Any, key: Array, action: Array, obs: Array, state: Any) -> History:
        next_obs, _, reward, terminated, _ = self.env.step_env(key, state, action, task)
        return History(obs, action, reward, next_obs, terminated, jnp.bool_(False))


@dataclasses.dataclass(frozen=True, eq=False)
class RolloutContexts(RoomContexts):
    """Consecutive transitions of a rollout of ``source``, from the start of its episode e, uniform in 0 .. ``skip``.

    Query t is the state acted upon after t transitions or, with probability ``elsewhere``, a uniform one: a context
    that is fixed during an episode is queried at any state.

    With ``labels``, an agent, label t is what it would do at query t, had it seen the first t transitions and nothing
    else of the task, instead of the optimal action: a teacher that is asked on other people's histories (Ross et al.
    2011), or the exact policy of what cannot be seen.
    """

    source: Agent = dataclasses.field(kw_only=True)
    labels: Agent | None = dataclasses.field(default=None, kw_only=True)
    elsewhere: float = 0.5
    skip: int = 0  # most episodes of the rollout before the context

    def __post_init__(self) -> None:
        super().__post_init__()
        require_float("elsewhere", self.elsewhere, 0.0, 1.0)
        require_int("skip", self.skip, 0, 2**20)
        if self.labels is not None:
            require(self.elsewhere == 0, "elsewhere", self.elsewhere, "0 with labels of an agent")
            allowed = f"{self.num_steps + 1} with labels of an agent"
            require(self.num_queries == self.num_steps + 1, "num_queries", self.num_queries, allowed)

    def _context(self, key: Array, task: Any) -> Contexts:
        if self.labels is None:
            return super()._context(key, task)
        key_seen, key_labels = split(key)
        history, query, _ = self._seen(key_seen, task)
        labels, _ = replay(key_labels, self.labels.for_task(task), history, query[-1])
        return Contexts(history, query, labels)

    def _seen(self, key: Array, task: Any) -> tuple[History, Array, Any]:
        key_rollout, key_skip, key_states, key_where = split(key, 4)
        horizon, length = self.env.spec.max_steps_in_episode, self.num_steps + 1
        rollout = interact(key_rollout, self.env, task, self.source, self.skip * horizon + length)
        over = rollout.history.terminated | rollout.history.truncated
        number = jnp.cumsum(over) - over  # of each step's episode
        first = jnp.argmax(number == jax.random.randint(key_skip, (), 0, self.skip + 1, jnp.int32)).astype(jnp.int32)
        window = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, length), (rollout.history, rollout.env_states)
        )
        if self.elsewhere == 0.0:
            return jax.tree.map(lambda field: field[:-1], window[0]), window[0].obs, window[1]
        away = jax.random.bernoulli(key_where, jnp.float32(self.elsewhere), (length,))
        here, there = (window[0].obs, window[1]), self._anywhere(key_states, task)
        query, states = jax.tree.map(lambda a, b: jax.vmap(jnp.where)(away, a, b), there, here)
        return jax.tree.map(lambda field: field[:-1], window[0]), query, states
