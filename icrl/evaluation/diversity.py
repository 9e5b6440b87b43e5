"""Whose choices are a model's like: those of a posterior over its pretraining tasks, or over the whole family?"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.model_types import Layout
from icrl.core.types import Array, Contexts
from icrl.evaluation.offline import states_along
from icrl.models._token_policy import Policy

FLOOR = 1e-3  # share of the uniform distribution in every one that is compared
SIDE_BY_SIDE = 50  # contexts read at once


def relative_distance(model: np.ndarray, memory: np.ndarray, general: np.ndarray) -> np.ndarray:
    """(r + 1) / 2 with r = (d(h, G) - d(h, M)) / d(G, M) (Wurgaft et al. 2025), [P].

    Args:
      model: probabilities of the choices of h, the model, [N, P, K].
      memory: those of M, the posterior over the pretraining tasks.
      general: those of G, the posterior over the family.
    """
    to_general, to_memory = _divergence(model, general), _divergence(model, memory)
    apart = np.maximum(_divergence(general, memory), 1e-12)
    return ((to_general - to_memory) / apart + 1) / 2


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Mean over N of (KL(p | q) + KL(q | p)) / 2 in nats, [P], float64."""
    p, q = ((1 - FLOOR) * np.asarray(x, np.float64) + FLOOR / x.shape[-1] for x in (p, q))
    return np.sum((p - q) * np.log(p / q), axis=-1).mean(0) / 2


def model_probs(layout: Layout, policy: Policy, contexts: Contexts, at: Array) -> np.ndarray:
    """Softmax of a model after the prefixes ``at`` [P] of contexts [N, T, ...]: [N, P, K]."""
    decisions = layout.decisions(contexts.history.action.shape[1])[at]

    def one(context: Contexts) -> Array:
        queries = jnp.broadcast_to(context.query, (context.history.action.shape[0] + 1, *context.query.shape[1:]))
        return jax.nn.softmax(policy(layout.sequence(context.history, queries), None, None)[0][decisions])

    return np.asarray(jax.jit(lambda every: jax.lax.map(one, every, batch_size=SIDE_BY_SIDE))(contexts))


def agent_probs(agent: Any, contexts: Contexts, at: Array) -> np.ndarray:
    """The same of an exact posterior sampler."""

    def one(context: Contexts) -> Array:
        states = jax.tree.map(lambda leaf: leaf[at], states_along(agent, context.history))
        return jax.vmap(agent.optimal_action_probs)(states)

    return np.asarray(jax.jit(lambda every: jax.lax.map(one, every, batch_size=SIDE_BY_SIDE))(contexts))
