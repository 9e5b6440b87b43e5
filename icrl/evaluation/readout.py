"""What a model reads off its context: how its logits follow the pulls and the successes of each arm of a bandit."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.model_types import Layout
from icrl.core.precision import in_32_bits
from icrl.core.types import Array, Contexts, History
from icrl.evaluation.offline import CONTEXTS, states_along


def count_slopes(scores: np.ndarray, pulls: np.ndarray, successes: np.ndarray) -> np.ndarray:
    """Slopes [N, 2] of the scores in (pulls, successes), one estimate a context left out, rescaled to pseudo-values.

    Least squares of scores [N, K] on pulls and successes [N, K] of the arms, each centred within its context, as a
    softmax does not see what all arms have in common: the slope in n is at fixed S and t. Their mean over N is the
    jackknife's estimate, their spread its uncertainty (Efron, Stein 1981).
    """
    y, x = _centred(scores), np.stack([_centred(pulls), _centred(successes)], axis=-1)  # [N, K], [N, K, 2]
    square, product = np.einsum("nki,nkj->nij", x, x), np.einsum("nki,nk->ni", x, y)
    whole = np.linalg.solve(square.sum(0), product.sum(0))
    without = np.linalg.solve(square.sum(0) - square, (product.sum(0) - product)[..., None])[..., 0]
    return len(y) * whole - (len(y) - 1) * without


def counts(history: History, num_actions: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Pulls and sums of rewards [N, K] float64 of each arm in the first ``steps`` of histories [N, T]."""
    chosen = np.asarray(history.action)[:, :steps, None] == np.arange(num_actions)
    return chosen.sum(1, dtype=np.float64), (chosen * np.asarray(history.reward)[:, :steps, None]).sum(1)


def model_logits(policy: Any, layout: Layout, contexts: Contexts, steps: int) -> np.ndarray:
    """What a model says of each arm after ``steps`` transitions of contexts [N, T, ...]: [N, K] float64."""
    first = jax.tree.map(lambda leaf: leaf[:, :steps], contexts.history)
    return np.asarray(_model_logits(policy, first, contexts.query[:, 0], layout), np.float64)


@partial(jax.jit, static_argnames=("layout",))
@in_32_bits
def _model_logits(policy: Any, history: History, query: Array, layout: Layout) -> Array:
    def one(context: tuple[History, Array]) -> Array:
        seen, obs = context
        tokens = layout.sequence(seen, jnp.broadcast_to(obs, (seen.action.shape[0] + 1, *obs.shape)))
        return policy(tokens)[0][-1, : layout.num_actions]

    return jax.lax.map(one, (history, query), batch_size=CONTEXTS)


def exact_logits(agent: Any, contexts: Contexts, steps: int) -> np.ndarray:
    """Logarithms of the posterior probability that an arm is the best, after ``steps`` transitions: [N, K] float64.

    ``agent`` has ``optimal_action_probs(state) -> [K]``; below 1e-6 nothing is told apart.
    """
    first = jax.tree.map(lambda leaf: leaf[:, :steps], contexts.history)
    return np.log(np.maximum(np.asarray(_exact_probs(agent, first), np.float64), 1e-6))


@jax.jit
def _exact_probs(agent: Any, history: History) -> Array:
    def one(seen: History) -> Array:
        last = jax.tree.map(lambda leaf: leaf[-1], states_along(agent, seen))
        return agent.optimal_action_probs(last)  # type: ignore[no-any-return]

    return jax.lax.map(one, history, batch_size=CONTEXTS)


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=1, keepdims=True)
