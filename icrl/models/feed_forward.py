"""What follows the mixing over time in a layer: an MLP, gated or not."""

import dataclasses
from typing import Any

import jax
from flax import nnx

from icrl.errors import require, require_float
from icrl.types import Array, ModelConfig

ACTIVATIONS = {"gelu": jax.nn.gelu, "relu": jax.nn.relu, "swiglu": jax.nn.silu}


@dataclasses.dataclass(frozen=True)
class FeedForwardConfig(ModelConfig):
    """What every model with feed-forward layers can be told about them."""

    mlp_ratio: float = 4.0  # hidden width of the MLP / width
    mlp: str = "gelu"  # activation of the MLP: "gelu", "relu" or "swiglu" (gated, without biases)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_float("mlp_ratio", self.mlp_ratio, 0.0, 64.0, open_low=True)
        require(self.mlp in ACTIVATIONS, "mlp", self.mlp, " or ".join(ACTIVATIONS))

    @property
    def sizes(self) -> tuple[str, ...]:
        return ("width", "mlp_ratio")

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP, at least 1."""
        return max(round(self.mlp_ratio * self.width), 1)


class MLP(nnx.Module):
    """V gelu(U u + b) + c, or V (silu(G u) * U u) (SwiGLU; Shazeer 2020)."""

    def __init__(self, config: FeedForwardConfig, rngs: nnx.Rngs, init: Any = None, out_init: Any = None):
        """Draw U and G with ``init``, V with ``out_init``; lecun normal by default."""
        lecun = nnx.initializers.lecun_normal()
        init, out_init, gated = init or lecun, out_init or lecun, config.mlp == "swiglu"
        self.activation = ACTIVATIONS[config.mlp]
        self.expand = nnx.Linear(config.width, config.hidden, use_bias=not gated, kernel_init=init, rngs=rngs)
        if gated:
            self.gate = nnx.Linear(config.width, config.hidden, use_bias=False, kernel_init=init, rngs=rngs)
        self.contract = nnx.Linear(config.hidden, config.width, use_bias=not gated, kernel_init=out_init, rngs=rngs)
        self.gated = gated

    def __call__(self, u: Array) -> Array:
        """Map u [T, D] to y [T, D]."""
        up = self.expand(u)
        hidden = self.activation(self.gate(u)) * up if self.gated else self.activation(up)
        return self.contract(hidden)
