"""Forward and backward of Flax's GRU over a batch of sequences."""

import jax
import jax.numpy as jnp
from flax import nnx
from turns import serve, settings


def main() -> None:
    given = settings()
    batch, length, width = given["batch"], given["length"], given["width"]
    graphdef, params, rest = nnx.split(nnx.RNN(nnx.GRUCell(width, width, rngs=nnx.Rngs(0))), nnx.Param, ...)
    xs, carry = jax.random.normal(jax.random.key(0), (batch, length, width)), jnp.zeros((batch, width))

    @jax.jit
    @jax.grad
    def gradient(params: object) -> jax.Array:
        return jnp.sum(nnx.merge(graphdef, params, rest)(xs, initial_carry=carry) ** 2)

    serve(lambda: gradient(params), batch * length, "tokens", ("flax", "jax"), jax.block_until_ready)


if __name__ == "__main__":
    main()
