"""What is seen next, from a code of the past and the actions to come (Dedieu et al. 2024, the TDB).

Antoine Dedieu, Wolfgang Lehrach, Guangyao Zhou, Dileep George, Miguel Lazaro-Gredilla, "Learning Cognitive Maps from
Transformer Representations for Efficient Planning in Partially Observed Environments", ICML 2024, arXiv 2401.05946.

Of the abstract: a transformer with a discrete bottleneck, which compresses the history of observations and actions, and
from whose codes a map is read off. The body of the paper could not be read. Ours is all that makes it a network: one
token a step, the codebook's rules, and an MLP for each of S targets,

    P(o_{n+s} | c_n, a_n .. a_{n+s-1}) = softmax MLP_s(c_n, a_n, .., a_{n+s-1}),  s = 1 .. S,

where c_n is the code of o_1 a_1 .. a_{n-1} o_n. Targets further on force codes apart whose next symbols are the same.
Without ``discrete`` the vectors go on as they are: the same network without a bottleneck, to compare with.

It is no ``TokenPolicy``, though it has the same calls: its outputs are no scores of actions, and need those to come.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.fields import setting
from icrl.core.model_types import SequenceModel
from icrl.core.precision import exact_products
from icrl.core.types import Array
from icrl.models.layers.vector_quantiser import CodebookConfig, VectorQuantiser


@dataclasses.dataclass(frozen=True)
class BottleneckConfig(CodebookConfig):
    """The bottleneck and what is predicted through it."""

    num_targets: int = setting(3, low=1, high=16, help="S, coming observations that are predicted from a code")
    decoder_width: int = setting(128, low=1, high=65536, help="hidden units of the MLP of each target")

    @property
    def code_width(self) -> int:
        """M d, features of a code."""
        return self.num_bottlenecks * self.code_dim


class ObservationModel(nnx.Module):
    """Tokens [T, D + S K] to logits [T, S O]: the last S K features of a token are the coming S actions, one-hot."""

    def __init__(
        self,
        token_dim: int,
        num_actions: int,
        num_observations: int,
        backbone: SequenceModel,
        config: BottleneckConfig,
        discrete: bool,
        rngs: nnx.Rngs,
    ):
        self.token_dim, self.num_actions = token_dim, num_actions
        self.embed = nnx.Linear(token_dim, backbone.width, rngs=rngs)
        self.backbone = backbone
        self.contract = nnx.Linear(backbone.width, config.code_width, rngs=rngs)
        self.bottleneck = VectorQuantiser(config, rngs) if discrete else None
        plans = [config.code_width + (target + 1) * num_actions for target in range(config.num_targets)]
        self.expand = nnx.List([nnx.Linear(width, config.decoder_width, rngs=rngs) for width in plans])
        self.heads = nnx.List([nnx.Linear(config.decoder_width, num_observations, rngs=rngs) for _ in plans])

    @exact_products
    def __call__(self, tokens: Array, start: Array | None = None, carry: Any = None) -> tuple[Array, Any]:
        """Logits [T, S O] for tokens [T, D + S K], and the carry."""
        past, plan = tokens[:, : self.token_dim], tokens[:, self.token_dim :]
        y, carry = self.backbone(self.embed(past), start, carry)
        code = self.contract(y)
        code = code if self.bottleneck is None else self.bottleneck(code)
        logits = [
            head(jax.nn.relu(expand(jnp.concatenate([code, plan[:, : (target + 1) * self.num_actions]], axis=-1))))
            for target, (expand, head) in enumerate(zip(self.expand, self.heads, strict=True))
        ]
        return jnp.concatenate(logits, axis=-1), carry
