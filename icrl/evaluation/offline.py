"""Offline evaluation: a context is given, the greedy choice after every prefix of it is scored.

So are the probabilities: a model's cross-entropy on contexts, beside that of the exact posterior.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.interact import interact, replay
from icrl.core.precision import exact_products, in_32_bits
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Array, Contexts, Environment, History
from icrl.datasets.contexts import recorded_in
from icrl.evaluation.online import tasks_side_by_side

CONTEXTS = 50  # whole contexts read side by side


class Recorded(NamedTuple):
    """Contexts, and what no agent may know of them: the states in which their choices were to be made."""

    contexts: Contexts  # [N, T, ...]
    next_obs: Array  # [N, *O] float32, the observation after T transitions
    states: Any  # the environment's states [N, T + 1, ...], one for each prefix


def recorded_contexts(env: Environment, tasks: TaskSet, source: Agent, num_steps: int, seed: int) -> Recorded:
    """Labelled contexts [N, T, ...] that ``source`` leaves behind in ``tasks``: the offline evaluation's data."""
    keys = keys_for(key_for(seed, "offline"), tasks.ids)
    return _record(keys, tasks.params, source, env, num_steps)


@partial(jax.jit, static_argnames=("env", "num_steps"))
def _record(keys: Array, params: Any, source: Agent, env: Environment, num_steps: int) -> Recorded:
    def one_task(key: Array, task: Any) -> Recorded:
        contexts, lived = recorded_in(env, task, source, num_steps, key)
        states = jax.tree.map(lambda all, last: jnp.append(all, last[None], axis=0), lived.env_states, lived.next_state)
        return Recorded(contexts, lived.next_obs, states)

    return jax.vmap(one_task)(keys, params)


def offline_returns(env: Environment, tasks: TaskSet, agent: Any, contexts: History, seed: int) -> np.ndarray:
    """Return [N] float64 of one episode played on given contexts [N, C, ...]; ``agent`` has a field ``context``."""
    keys = keys_for(key_for(seed, "offline/episode"), tasks.ids)
    return np.asarray(_offline_returns(keys, tasks.params, contexts, agent, env), np.float64)


@partial(jax.jit, static_argnames=("env",))
def _offline_returns(keys: Array, params: Any, contexts: History, agent: Any, env: Environment) -> Array:
    def one_task(task: tuple[Array, Any, History]) -> Array:
        key, task_params, context = task
        told = agent.replace(context=context)
        history = interact(key, env, task_params, told, env.spec.max_steps_in_episode).history
        if not env.spec.ends_early:
            return jnp.sum(history.reward)
        over = history.terminated | history.truncated
        return jnp.sum(history.reward, where=jnp.cumsum(over) == over)  # the first episode and its last step

    return jax.lax.map(one_task, (keys, params, contexts), batch_size=tasks_side_by_side(agent))


def offline_suboptimality(env: Environment, tasks: TaskSet, agent: Agent, recorded: Recorded, seed: int) -> np.ndarray:
    """Regret of the greedy choice after 0 .. T transitions of recorded contexts [N, T, ...]: [N, T + 1] float64.

    The choice after t transitions is made at the observation that the recorded rollout saw then, and scored in the
    state it was in: mu* - mu of that context and time in bandits, V* - Q* in worlds with states.
    """
    keys = keys_for(key_for(seed, "offline/agent"), tasks.ids)
    return np.asarray(_suboptimality(keys, tasks.params, recorded, agent, env), np.float64)


@partial(jax.jit, static_argnames=("env",))
@in_32_bits
@exact_products
def _suboptimality(keys: Array, params: Any, recorded: Recorded, agent: Agent, env: Environment) -> Array:
    def one_task(task: tuple[Array, Any, Recorded]) -> Array:
        key, task_params, (contexts, next_obs, states) = task
        actions, _ = replay(key, agent.for_task(task_params), contexts.history, next_obs)
        return jax.vmap(env.regret, in_axes=(None, 0, 0))(task_params, states, actions)

    return jax.lax.map(one_task, (keys, params, recorded), batch_size=tasks_side_by_side(agent))


def model_cross_entropy(objective: Any, policy: Any, contexts: Contexts | History) -> np.ndarray:
    """Cross-entropy in nats at every prefix of contexts, [N, T + 1] float64, or of windows, [N, T]."""
    return np.asarray(_model_cross_entropy(policy, contexts, objective), np.float64)


@partial(jax.jit, static_argnames=("objective",))
@in_32_bits
def _model_cross_entropy(policy: Any, contexts: Any, objective: Any) -> Array:
    def one_context(context: Any) -> Array:
        return objective.cross_entropy(policy, jax.tree.map(lambda leaf: leaf[None], context))[0]

    return jax.lax.map(one_context, contexts, batch_size=CONTEXTS)


def model_probabilities(objective: Any, policy: Any, windows: History) -> np.ndarray:
    """What a model gives every action at each step of windows [N, T, ...], [N, T, K] float64."""
    return np.asarray(_model_probabilities(policy, windows, objective), np.float64)


@partial(jax.jit, static_argnames=("objective",))
@in_32_bits
def _model_probabilities(policy: Any, windows: History, objective: Any) -> Array:
    at = objective.layout.decisions(windows.action.shape[1] - 1)

    def one_window(window: Any) -> Array:
        tokens = objective.inputs(jax.tree.map(lambda leaf: leaf[None], window))[0]
        return jax.nn.softmax(policy(tokens)[0][at, : objective.layout.num_outputs])

    return jax.lax.map(one_window, windows, batch_size=CONTEXTS)


def ideal_cross_entropy(agent: Any, contexts: Contexts, prefixes: np.ndarray) -> np.ndarray:
    """-log of the exact posterior probability of the labels at some ``prefixes`` [P]: [N, P] float64.

    ``agent`` has ``optimal_action_probs(state) -> [K]``. No model can have a lower expected cross-entropy on the same
    contexts unless something leaks; paired on the same contexts, the gap's noise is small.
    """
    return np.asarray(_ideal_cross_entropy(agent, contexts, jnp.asarray(prefixes)), np.float64)


@jax.jit
@in_32_bits
@exact_products
def _ideal_cross_entropy(agent: Any, contexts: Contexts, prefixes: Array) -> Array:
    def one_context(context: Contexts) -> Array:
        states = states_along(agent, context.history)
        chosen = jax.tree.map(lambda leaf: leaf[prefixes], states)
        probs = jax.vmap(agent.optimal_action_probs)(chosen)
        labels = jnp.broadcast_to(context.label, context.history.action.shape[0] + 1)[prefixes]
        return -jnp.log(jnp.maximum(jnp.take_along_axis(probs, labels[:, None], axis=1)[:, 0], 1e-30))

    return jax.lax.map(one_context, contexts, batch_size=CONTEXTS)


def action_cross_entropy(agent: Any, windows: History) -> np.ndarray:
    """-log of the probability that ``agent`` gives to each action of windows [N, T, ...]: [N, T] float64.

    ``agent`` has ``action_probs(state, obs) -> [K]`` and begins with each window.
    """
    return np.asarray(_action_cross_entropy(agent, windows), np.float64)


@jax.jit
@in_32_bits
@exact_products
def _action_cross_entropy(agent: Any, windows: History) -> Array:
    def one_step(state: Any, seen: Any) -> tuple[Any, Array]:
        probs = agent.action_probs(state, seen.obs)
        return agent.update(state, seen), -jnp.log(jnp.maximum(probs[seen.action], 1e-30))

    def one_window(window: History) -> Array:
        return jax.lax.scan(one_step, agent.init(jax.random.key(0)), window)[1]

    return jax.lax.map(one_window, windows, batch_size=tasks_side_by_side(agent))


@in_32_bits
@exact_products
def states_along(agent: Agent, history: History) -> Any:
    """The agent's state after 0 .. T transitions of history [T, ...], stacked [T + 1, ...]; for small states only."""

    def one_step(state: Any, transition: Any) -> tuple[Any, Any]:
        after = agent.update(state, transition)
        return after, after

    start = agent.init(jax.random.key(0))
    _, later = jax.lax.scan(one_step, start, history)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, later)
