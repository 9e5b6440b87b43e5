"""What follows the mixing over time in a layer: an MLP, or experts in its place (see ``moe.py``)."""

import dataclasses
from typing import Any

import jax
from flax import nnx

from icrl.errors import require_int
from icrl.models.moe import MixtureOfExperts, MoEConfig
from icrl.types import Array, ModelConfig


@dataclasses.dataclass(frozen=True)
class FeedForwardConfig(ModelConfig):
    """What every model with feed-forward layers can be told about them."""

    mlp_ratio: int = 4  # hidden width of the MLP / width
    mixture: MoEConfig = dataclasses.field(default_factory=MoEConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("mlp_ratio", self.mlp_ratio, 1, 64)

    @property
    def sequences_per_task(self) -> int:
        return self.mixture.sequences_per_task


class MLP(nnx.Module):
    """V gelu(U u + b) + c. It remembers nothing, and has the signature of what may stand in its place."""

    def __init__(self, config: FeedForwardConfig, rngs: nnx.Rngs, init: Any, out_init: Any):
        hidden = config.width * config.mlp_ratio
        self.expand = nnx.Linear(config.width, hidden, kernel_init=init, rngs=rngs)
        self.contract = nnx.Linear(hidden, config.width, kernel_init=out_init, rngs=rngs)

    def initial_carry(self) -> tuple[()]:
        return ()

    def __call__(self, u: Array, start: Array | None, carry: tuple[()]) -> tuple[Array, tuple[()]]:
        """Map u [T, D] to y [T, D]."""
        del start
        return self.contract(jax.nn.gelu(self.expand(u))), carry


def has_experts(config: FeedForwardConfig, layer: int) -> bool:
    """Whether ``layer`` (from 0) is one of those with experts."""
    return config.mixture.moe != "none" and layer >= config.num_layers - config.mixture.moe_layers


def new_feed_forward(
    config: FeedForwardConfig, layer: int, rngs: nnx.Rngs, init: Any = None, out_init: Any = None
) -> MLP | MixtureOfExperts:
    """The feed-forward of ``layer`` (from 0): ``__call__(u [T, D], start [T], carry) -> (y [T, D], carry)``.

    ``init`` and ``out_init`` are of an MLP's matrices, lecun normal by default; experts have initialisers of their own.
    """
    if has_experts(config, layer):
        return MixtureOfExperts(config.mixture, config.width, f"layer_{layer}", rngs)
    lecun = nnx.initializers.lecun_normal()
    return MLP(config, rngs, init or lecun, out_init or lecun)
