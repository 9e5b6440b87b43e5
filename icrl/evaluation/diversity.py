"""Whose choices are a model's like: those of a posterior over its pretraining tasks, or over the whole family?"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.model_types import Layout
from icrl.core.precision import in_32_bits
from icrl.core.types import Array, Contexts
from icrl.datasets.examples import Framed
from icrl.evaluation.offline import states_along
from icrl.models._token_policy import Policy
from icrl.objectives._next_outcome import NextOutcome
from icrl.planning.divergence import symmetrised_kl

SIDE_BY_SIDE = 50  # contexts read at once


def relative_distance(to_memory: np.ndarray, to_general: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """(r + 1) / 2 with r = (d(h, G) - d(h, M)) / d(G, M) (Wurgaft et al. 2025): 0 where h is G, 1 where it is M.

    Args are d(h, M), d(h, G) and d(G, M), of one shape.
    """
    return ((to_general - to_memory) / np.maximum(apart, 1e-12) + 1) / 2


def distance_of_choices(model: np.ndarray, memory: np.ndarray, general: np.ndarray) -> np.ndarray:
    """The relative distance by symmetrised KL, averaged over N contexts, [P].

    Args:
      model: probabilities of the choices of h, the model, [N, P, K].
      memory: those of M, the posterior over the pretraining tasks.
      general: those of G, the posterior over the family.
    """
    return relative_distance(_divergence(model, memory), _divergence(model, general), _divergence(general, memory))


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Mean over N of the symmetrised KL in nats, [P], float64."""
    return np.asarray(symmetrised_kl(np.asarray(p, np.float64), np.asarray(q, np.float64))).mean(0)


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


def prediction_losses(objective: NextOutcome, policy: Policy, sequences: Framed) -> dict[str, np.ndarray]:
    """What a model and the two exact predictors lose, and how far apart they are: [N, K] float64 each.

    ``model``, ``memory`` and ``general`` are losses, ``to_memory``, ``to_general`` and ``apart`` are d(h, M), d(h, G)
    and d(G, M) for the predictions h of the model.
    """
    found = _losses(objective, policy, sequences)
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


@partial(jax.jit, static_argnames=("objective",))
@in_32_bits
def _losses(objective: NextOutcome, policy: Policy, sequences: Framed) -> dict[str, Array]:
    family = objective.family

    def one(sequence: Framed) -> dict[str, Array]:
        outcome, memory, general = sequence.examples.y, sequence.memorising, sequence.generalising
        model = objective.predictions(policy, jax.tree.map(lambda leaf: leaf[None], sequence.examples))[0]
        losses = {"model": model, "memory": memory, "general": general}
        apart = {"to_memory": (model, memory), "to_general": (model, general), "apart": (general, memory)}
        return {
            **{name: family.losses(prediction, outcome) for name, prediction in losses.items()},
            **{name: family.distance(*pair) for name, pair in apart.items()},
        }

    found: dict[str, Array] = jax.lax.map(one, sequences, batch_size=SIDE_BY_SIDE)
    return found
