import jax
import jax.numpy as jnp

from icrl.core.registry import models
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig


class FadingMixer(Mixer):
    def __init__(self, config, rngs):
        self.width = config.width

    def initial_carry(self):
        return jnp.zeros(self.width)

    def __call__(self, u, start, carry):
        def step(h, item):
            h = jnp.where(item[1], 0, 0.9 * h) + item[0]
            return h, h

        carry, y = jax.lax.scan(step, carry, (u, start))
        return y, carry


@models.register("fading", paper="-")
class Fading(ResidualStack):
    Config, Mixer = StackConfig, FadingMixer
