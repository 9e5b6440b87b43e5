"""Predict every outcome of a sequence of examples from those before it (Raventos et al. 2023; Wurgaft et al. 2025).

It is in no registry, as it reads no transitions: experiments on families of examples take it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from icrl.core.model_types import Supervised
from icrl.core.types import Array
from icrl.envs._examples import ExampleFamily, Examples


@dataclasses.dataclass(frozen=True)
class NextOutcome(Supervised):
    """The family's loss at every decision: squared error of numbers, cross-entropy of colours. No layout."""

    family: ExampleFamily

    @property
    def num_outputs(self) -> int:
        return self.family.num_outputs

    def inputs(self, batch: Examples, key: Array | None = None) -> Array:
        """Tokens [B, L, D] of sequences [B, K, ...]."""
        del key
        return jax.vmap(self.family.tokens)(batch)

    def scores(self, logits: Array, batch: Examples) -> Array:
        """The loss of each prediction, [B, K] float32, for outputs [B, L, O]."""
        return jax.vmap(self.family.scores)(logits[:, self.family.decisions()], batch.y)

    def predictions(self, policy: Any, batch: Examples) -> Array:
        """What a ``Policy`` predicts, [B, K, ...]."""
        outputs = jax.vmap(policy)(self.inputs(batch))[0]
        return jax.vmap(self.family.predict)(outputs[:, self.family.decisions()])

    def report(self, policy: Any, batch: Any) -> dict[str, Array]:
        """``val_loss`` on ``Framed`` sequences, and how far the predictions are from the two exact ones; [] float32."""
        said = super().report(policy, batch.examples)
        predicted, distance = self.predictions(policy, batch.examples), jax.vmap(self.family.distance)
        return {
            **said,
            "to_memory": jnp.mean(distance(predicted, batch.memorising)),
            "to_general": jnp.mean(distance(predicted, batch.generalising)),
        }
