"""What follows the mixing over time in a layer: an MLP, gated or not, or experts in its place (see ``moe.py``)."""

import dataclasses
from typing import Any

import jax
from flax import nnx

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.model_types import ModelConfig
from icrl.core.types import Array
from icrl.models.layers.linear import linear
from icrl.models.layers.moe import MixtureOfExperts, MoEConfig

ACTIVATIONS = {
    "gelu": jax.nn.gelu,
    "relu": jax.nn.relu,
    "leaky-relu": jax.nn.leaky_relu,  # that of experts
    "swiglu": jax.nn.silu,
}


@dataclasses.dataclass(frozen=True)
class FeedForwardConfig(ModelConfig):
    """What every model with feed-forward layers can be told about them."""

    mlp_ratio: float = setting(4.0, low=0.0, high=64.0, open_low=True, help="hidden width of the MLP / width")
    mlp: str = setting("gelu", choices=ACTIVATIONS, help="activation of the MLP; swiglu is gated and has no biases")
    last_mlp_ratio: float | None = setting(
        None,
        low=0.0,
        high=4096.0,
        open_low=True,
        help="hidden width / width of the MLPs in the last moe-layers layers, a dense twin of experts; none: mlp-ratio",
    )
    mixture: MoEConfig = setting(default_factory=MoEConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        is_free = self.last_mlp_ratio is None or self.mixture.moe == "none"
        require(is_free, "last_mlp_ratio", self.last_mlp_ratio, "none where experts are in place of that MLP")

    @property
    def sizes(self) -> tuple[str, ...]:
        return ("width", "mlp_ratio")

    @property
    def sequences_per_task(self) -> int:
        return self.mixture.sequences_per_task

    def hidden(self, layer: int) -> int:
        """Hidden width of the MLP in ``layer`` (from 0), at least 1."""
        ratio = self.last_mlp_ratio if is_last(self, layer) else None
        return max(round((self.mlp_ratio if ratio is None else ratio) * self.width), 1)


class MLP(nnx.Module):
    """V gelu(U u + b) + c, or V (silu(G u) * U u) (SwiGLU; Shazeer 2020).

    It remembers nothing, but has the signature of what may stand in its place.
    """

    def __init__(self, config: FeedForwardConfig, layer: int, rngs: nnx.Rngs, init: Any = None, out_init: Any = None):
        """Draw U and G with ``init``, V with ``out_init``; lecun normal by default."""
        lecun = nnx.initializers.lecun_normal()
        self.activation, self.gated = ACTIVATIONS[config.mlp], config.mlp == "swiglu"
        width, hidden, bias = config.width, config.hidden(layer), not self.gated
        self.expand = linear(config.matmuls, width, hidden, rngs, use_bias=bias, kernel_init=init or lecun)
        if self.gated:
            self.gate = linear(config.matmuls, width, hidden, rngs, use_bias=bias, kernel_init=init or lecun)
        self.contract = linear(config.matmuls, hidden, width, rngs, use_bias=bias, kernel_init=out_init or lecun)

    def initial_carry(self) -> tuple[()]:
        return ()

    def __call__(self, u: Array, start: Array, carry: tuple[()]) -> tuple[Array, tuple[()]]:
        """Map u [T, D] to y [T, D]."""
        del start
        up = self.expand(u)
        hidden = self.activation(self.gate(u)) * up if self.gated else self.activation(up)
        return self.contract(hidden), carry


def is_last(config: FeedForwardConfig, layer: int) -> bool:
    """Whether ``layer`` (from 0) is one of those that have experts, if there are any."""
    return layer >= config.num_layers - config.mixture.moe_layers


def is_fed_apart(config: FeedForwardConfig, layer: int) -> bool:
    """Whether ``layer`` (from 0) has experts, or the MLP that stands in for them in a dense twin."""
    return is_last(config, layer) and (config.mixture.moe != "none" or config.last_mlp_ratio is not None)


def new_feed_forward(
    config: FeedForwardConfig, layer: int, rngs: nnx.Rngs, init: Any = None, out_init: Any = None
) -> MLP | MixtureOfExperts:
    """The feed-forward of ``layer`` (from 0): ``__call__(u [T, D], start [T], carry) -> (y [T, D], carry)``.

    ``init`` and ``out_init`` are of an MLP's matrices; experts have initialisers of their own.
    """
    if config.mixture.moe != "none" and is_last(config, layer):
        return MixtureOfExperts(config.mixture, config.width, f"layer_{layer}", rngs)
    return MLP(config, layer, rngs, init, out_init)
