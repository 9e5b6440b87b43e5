"""A grid of XLand-MiniGrid with a uniform player, many side by side, restarted where an episode ends."""

import jax
import jax.numpy as jnp
import xminigrid
from turns import serve, settings
from xminigrid.wrappers import GymAutoResetWrapper


def main() -> None:
    given = settings()
    count, steps = given["count"], given["steps"]
    env, params = xminigrid.make(given["world"])
    env = GymAutoResetWrapper(env)
    actions = env.num_actions(params)

    @jax.jit
    @jax.vmap
    def rollout(key: jax.Array) -> jax.Array:
        key_reset, key_steps = jax.random.split(key)

        def step(timestep: object, key: jax.Array) -> tuple[object, jax.Array]:
            timestep = env.step(params, timestep, jax.random.randint(key, (), 0, actions))
            return timestep, timestep.reward + 0 * jnp.sum(timestep.observation)  # somebody looks at it

        keys = jax.random.split(key_steps, steps)
        return jnp.sum(jax.lax.scan(step, env.reset(params, key_reset), keys)[1])

    keys = jax.random.split(jax.random.key(0), count)
    serve(lambda: rollout(keys), count * steps, "steps", ("xminigrid", "jax"), jax.block_until_ready)


if __name__ == "__main__":
    main()
