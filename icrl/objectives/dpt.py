"""Decision pretraining (Lee et al. 2023, equation 2 and A.1): predict the optimal action from every prefix."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.datasets.contexts import Contexts
from icrl.models.token_policy import FrozenPolicy
from icrl.registry import objectives
from icrl.types import Array, Layout, Objective


@objectives.register("dpt", paper="Lee et al. 2023")
@dataclasses.dataclass(frozen=True)
class DPT(Objective):
    """Cross-entropy of the label at positions 0 .. T of [query, transition 1, ..., transition T].

    Departure from the paper: position 0 (no transitions yet) is trained as well. The authors' code drops it from the
    loss although its untrained output is what chooses the first online action.
    """

    layout: Layout

    def cross_entropy(self, policy: FrozenPolicy, batch: Contexts) -> Array:
        """-log p(label | prefix) in nats, [B, T + 1] float32."""
        steps = batch.history.action.shape[1]
        tokens = jax.vmap(self._tokens)(batch)
        logits = jax.vmap(policy)(tokens)[0][:, self.layout.decisions(steps)]
        chosen = jax.nn.one_hot(batch.label, logits.shape[-1])[:, None]
        return -jnp.sum(jax.nn.log_softmax(logits) * chosen, axis=-1)

    def _tokens(self, context: Contexts) -> Array:
        """Tokens [L, D] of one context, its query asked at every decision."""
        queries = jnp.broadcast_to(context.query, (context.history.action.shape[0] + 1, *context.query.shape))
        return self.layout.sequence(context.history, queries)
