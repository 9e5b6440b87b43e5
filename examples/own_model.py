"""An own sequence model: leaky integrators, trained and compared with S5 at the same size.

    python examples/own_model.py

A recurrent model is only its mixer; what surrounds it is shared with all others.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

import icrl
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.linear import linear
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig
from icrl.testing import check_model


class LeakyMixer(Mixer):
    """h <- a h + (1 - a) W u with a learned rate a in (0, 1) for each feature; state h [D] float32."""

    def __init__(self, config: StackConfig, rngs: nnx.Rngs):
        self.width = config.width
        self.W = linear(config.matmuls, self.width, self.width, rngs)
        self.rate = nnx.Param(jnp.linspace(-2.0, 4.0, self.width))

    def initial_carry(self) -> Array:
        return jnp.zeros(self.width, jnp.float32)

    def __call__(self, u: Array, start: Array, carry: Array) -> tuple[Array, Array]:
        a = jax.nn.sigmoid(self.rate[...]).astype(carry.dtype)

        def step(h: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
            h = a * jnp.where(item[1], 0, h) + (1 - a) * item[0]  # a start forgets what was before
            return h, h

        h, y = jax.lax.scan(step, carry, (self.W(u).astype(carry.dtype), start))
        return y, h


@models.register("leaky")
class Leaky(ResidualStack):
    """Leaky integrators in residual blocks."""

    Config, Mixer = StackConfig, LeakyMixer


def main(out: Path = Path("runs/own-model"), train_steps: int = 2000, lawful: bool = True) -> Path:
    """DPT on Gaussian bandits with both models; the folder of the run."""
    if lawful:
        check_model("leaky")
    settings = {"vary": ("model=leaky,s5",), "parameters": 4000, "train_steps": train_steps}
    return icrl.run("dpt-bandit", preset="smoke", out=out, **settings).folder


if __name__ == "__main__":
    print(main() / "report.html")
