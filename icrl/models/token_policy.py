"""The network of an in-context agent: tokens in, action logits out, any sequence model in between."""

from typing import Any

import jax
from flax import nnx, struct

from icrl.types import Array, SequenceModel


class TokenPolicy(nnx.Module):
    """Linear embedding, sequence model, linear head (Lee et al. 2023, A.1)."""

    def __init__(self, token_dim: int, num_actions: int, backbone: SequenceModel, init_std: float, rngs: nnx.Rngs):
        init = nnx.initializers.normal(init_std)
        self.embed = nnx.Linear(token_dim, backbone.width, kernel_init=init, rngs=rngs)
        self.backbone = backbone
        self.head = nnx.Linear(backbone.width, num_actions, kernel_init=init, rngs=rngs)

    def __call__(self, tokens: Array, start: Array | None = None, carry: Any = None) -> tuple[Array, Any]:
        """Logits [T, K] for tokens [T, token_dim], and the carry."""
        y, carry = self.backbone(self.embed(tokens), start, carry)
        return self.head(y), carry


@struct.dataclass
class FrozenPolicy:
    """A ``TokenPolicy`` as a pytree of its parameters: what jitted code passes around instead of the module."""

    params: Any
    graphdef: Any = struct.field(pytree_node=False)

    @classmethod
    def split(cls, policy: TokenPolicy) -> "FrozenPolicy":
        """Take a module apart once, outside ``jit``."""
        graphdef, params = nnx.split(policy, nnx.Param)
        return cls(params=nnx.to_pure_dict(params), graphdef=graphdef)

    def merge(self) -> TokenPolicy:
        """The module again."""
        return nnx.merge(self.graphdef, self.params)

    def __call__(self, tokens: Array, start: Array | None = None, carry: Any = None) -> tuple[Array, Any]:
        """Logits [T, K] for tokens [T, token_dim], and the carry."""
        return self.merge()(tokens, start, carry)

    def initial_carry(self) -> Any:
        """Memory of an empty past."""
        return self.merge().backbone.initial_carry()

    @property
    def num_parameters(self) -> int:
        """Scalars in the parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))
