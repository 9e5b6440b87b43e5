"""The network of an in-context agent: tokens in, action logits out, any sequence model in between."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core import struct
from icrl.core.model_types import SequenceModel
from icrl.core.precision import exact_products
from icrl.core.types import Array
from icrl.models.layers.auxiliary import AuxiliaryLayer, Slow, auxiliary_layers, watch


class TokenPolicy(nnx.Module):
    """Linear embedding, sequence model, linear head (Lee et al. 2023, A.1)."""

    def __init__(self, token_dim: int, num_outputs: int, backbone: SequenceModel, init_std: float, rngs: nnx.Rngs):
        init = nnx.initializers.normal(init_std)
        self.embed = nnx.Linear(token_dim, backbone.width, kernel_init=init, rngs=rngs)
        self.backbone = backbone
        self.head = nnx.Linear(backbone.width, num_outputs, kernel_init=init, rngs=rngs)

    @exact_products
    def __call__(self, tokens: Array, start: Array | None = None, carry: Any = None) -> tuple[Array, Any]:
        """Logits [T, K] for tokens [T, token_dim], and the carry."""
        y, carry = self.backbone(self.embed(tokens), start, carry)
        return self.head(y), carry


class Structure:
    """A module without its arrays, static in jitted code. Hashed once: ``jit`` asks at every call, for 0.6 ms each."""

    def __init__(self, graphdef: Any):
        self.definition, self._hash = graphdef, hash(graphdef)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Structure) and self.definition == other.definition)


@struct.dataclass
class Policy:
    """A ``TokenPolicy`` as pytrees of its parameters: what jitted code passes around instead of the module."""

    params: Any
    structure: Structure = struct.field(pytree_node=False)
    slow: Any = struct.field(default_factory=dict)  # what follows some parameters slowly; {} in most models

    @classmethod
    def split(cls, policy: nnx.Module) -> "Policy":
        """Take a module apart once, outside ``jit``."""
        graphdef, params, slow = nnx.split(policy, nnx.Param, Slow)  # type: ignore[misc]
        return cls(params=nnx.to_pure_dict(params), structure=Structure(graphdef), slow=nnx.to_pure_dict(slow))

    def merge(self) -> TokenPolicy:
        """The module again."""
        return nnx.merge(self.structure.definition, self.params, self.slow)

    def __call__(self, tokens: Array, start: Array | None = None, carry: Any = None) -> tuple[Array, Any]:
        """Logits [T, K] for tokens [T, token_dim], and the carry."""
        return self.merge()(tokens, start, carry)

    def initial_carry(self) -> Any:
        """Memory of an empty past."""
        return self.merge().backbone.initial_carry()

    @property
    def is_endless(self) -> bool:
        """Whether its memory holds any number of tokens."""
        return self.merge().backbone.is_endless

    @property
    def num_parameters(self) -> int:
        """Scalars in the parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    @property
    def num_active_parameters(self) -> int:
        """Those that a token meets where the policy acts: without experts that do not serve it, and training's own."""
        return self.num_parameters - sum(layer.idle for layer in self._layers())

    # --- The channel of the layers that want more than a gradient, see ``auxiliary.py`` ---

    def apply_with_aux(self, tokens: Array, key: Array | None = None) -> tuple[Array, list[Any]]:
        """Logits [T, K] for tokens [T, token_dim], and what each auxiliary layer recorded; noisy with a typed key."""
        policy = self.merge()
        layers = auxiliary_layers(policy)
        watch(layers, key)
        return policy(tokens)[0], [layer.record for layer in layers]

    def auxiliary_loss(self, records: list[Any]) -> Array:
        """Sum of the layers' losses, [] float32, for the records of a batch, each with a leading axis [B]."""
        losses = [layer.loss(record) for layer, record in zip(self._layers(), records, strict=True)]
        return sum(losses, jnp.float32(0.0))

    def statistics(self, records: list[Any]) -> dict[str, Array]:
        """The layers' statistics by label and name, [] float32 each."""
        found = {layer.label: layer.statistics(record) for layer, record in zip(self._layers(), records, strict=True)}
        return {f"{label}_{name}": value for label, each in found.items() for name, value in each.items()}

    def gates(self, tokens: Array) -> list[Array]:
        """Gates [T, E] of each branch of experts in ``branches`` for tokens [T, token_dim], without noise."""
        return [record.gates for record in self.apply_with_aux(tokens)[1]]

    @property
    def branches(self) -> list[str]:
        """The labels of the branches of experts."""
        return [layer.label for layer in self._layers()]

    def seen(self, records: list[Any]) -> list[Any]:
        """What the records of a batch, each with a leading axis [B], tell the slow values of each layer."""
        return [layer.seen(record) for layer, record in zip(self._layers(), records, strict=True)]

    def update_ema(self, seen: Any = ()) -> "Policy":
        """The policy whose slow values have moved one step, by what the layers have ``seen``, if it is told."""
        policy = self.merge()
        layers = auxiliary_layers(policy)
        for layer, told in zip(layers, seen or [()] * len(layers), strict=True):
            layer.follow(told)
        return self.replace(slow=nnx.to_pure_dict(nnx.state(policy, Slow)))  # type: ignore[attr-defined]

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the loss of a batch is more than the mean of its rows' losses."""
        return any(layer.needs_whole_batch for layer in self._layers())

    def _layers(self) -> list[AuxiliaryLayer]:
        return auxiliary_layers(self.merge())
