"""The network of a policy that is trained by reinforcement: a token policy with a value beside its logits."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from icrl.core.model_types import SequenceModel
from icrl.core.precision import exact_products
from icrl.core.types import Array
from icrl.models._token_policy import TokenPolicy

FLAT = 0.01  # of the action head: all actions are about as likely before training (Andrychowicz et al. 2021)


class ActorCritic(TokenPolicy):
    """Linear embedding, one sequence model, and two linear heads. Frozen it is the token policy that it extends.

    The embedding is drawn with variance 1 / token_dim, the value's head with 1 / D, biases are 0.
    """

    def __init__(self, token_dim: int, num_outputs: int, backbone: SequenceModel, rngs: nnx.Rngs):
        super().__init__(token_dim, num_outputs, backbone, FLAT * backbone.width**-0.5, rngs)
        self.embed = nnx.Linear(token_dim, backbone.width, rngs=rngs)
        self.value = nnx.Linear(backbone.width, 1, rngs=rngs)

    @exact_products
    def with_value(self, tokens: Array, start: Array | None = None, carry: Any = None) -> tuple[Array, Array]:
        """Outputs [T, N] and values [T] for tokens [T, token_dim]."""
        y, _ = self.backbone(self.embed(tokens), start, carry)
        return self.head(y), jnp.squeeze(self.value(y), -1)
