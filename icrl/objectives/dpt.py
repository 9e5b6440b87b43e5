"""Decision pretraining (Lee et al. 2023, equation 2 and A.1): predict the optimal action from every prefix."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core.errors import require
from icrl.core.model_types import Layout, Supervised
from icrl.core.registry import objectives
from icrl.core.types import Array, Contexts


@objectives.register("dpt", paper="Lee et al. 2023")
@dataclasses.dataclass(frozen=True)
class DPT(Supervised):
    """Cross-entropy of the label at each prefix of 0 .. T transitions, for one query or one query a prefix.

    Departure from the paper: position 0 (no transitions yet) is trained as well. The authors' code drops it from the
    loss although its untrained output is what chooses the first online action.
    """

    layout: Layout

    @property
    def needs_labels(self) -> bool:
        return True

    def inputs(self, batch: Contexts, key: Array | None = None) -> Array:
        """Tokens [B, L, D] of contexts [B, T, ...]."""
        del key
        one, many = batch.label.shape[1] == 1, self.layout.num_prompt == 0
        require(one or many, "layout", type(self.layout).__name__, "one that reads a query at every step, as pairs")
        return jax.vmap(self._tokens)(batch)

    def scores(self, logits: Array, batch: Contexts) -> Array:
        """-log p(label | prefix) in nats, [B, T + 1] float32."""
        read = logits[:, self.layout.decisions(batch.history.action.shape[1])]
        return self.layout.head.neg_log_prob(read, batch.label)

    def _tokens(self, context: Contexts) -> Array:
        """Tokens [L, D] of one context; a single query is asked at every decision."""
        queries = jnp.broadcast_to(context.query, (context.history.action.shape[0] + 1, *context.query.shape[1:]))
        return self.layout.sequence(context.history, queries)
