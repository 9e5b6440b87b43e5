"""Decision pretraining (Lee et al. 2023, equation 2 and A.1): predict the optimal action from every prefix."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.datasets.contexts import Contexts
from icrl.models.token_policy import FrozenPolicy
from icrl.registry import objectives
from icrl.types import Array, History, Layout


@objectives.register("dpt", paper="Lee et al. 2023")
@dataclasses.dataclass(frozen=True)
class DPT:
    """Cross-entropy of the label at positions 0 .. T of [query, transition 1, ..., transition T].

    Departure from the paper: position 0 (no transitions yet) is trained as well. The authors' code drops it from the
    loss although its untrained output is what chooses the first online action.
    """

    layout: Layout

    def tokens(self, history: History, query: Array) -> Array:
        """Tokens [T + 1, D] of one context: history [T, ...], query [*O]."""
        transitions = jax.vmap(self.layout.encode)(history)
        return jnp.concatenate([self.layout.encode_query(query)[None], transitions])

    def cross_entropy(self, policy: FrozenPolicy, contexts: Contexts) -> Array:
        """-log p(label | prefix) in nats, [B, T + 1] float32."""
        tokens = jax.vmap(self.tokens)(contexts.history, contexts.query)
        logits, _ = jax.vmap(policy)(tokens)
        chosen = jax.nn.one_hot(contexts.label, logits.shape[-1])[:, None]
        return -jnp.sum(jax.nn.log_softmax(logits) * chosen, axis=-1)

    def loss(self, policy: FrozenPolicy, contexts: Contexts) -> Array:
        """Mean cross-entropy over contexts and prefixes, [] float32."""
        return jnp.mean(self.cross_entropy(policy, contexts))
