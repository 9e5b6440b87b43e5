"""An environment of gymnax with a uniform player, many side by side, restarted where an episode ends."""

import gymnax
import jax
import jax.numpy as jnp
from turns import serve, settings


def main() -> None:
    given = settings()
    count, steps = given["count"], given["steps"]
    env, params = gymnax.make(given["world"])

    @jax.jit
    @jax.vmap
    def rollout(key: jax.Array) -> jax.Array:
        key_reset, key_steps = jax.random.split(key)

        def step(carry: tuple[jax.Array, object], key: jax.Array) -> tuple[tuple[jax.Array, object], jax.Array]:
            obs, state = carry
            key_action, key_step = jax.random.split(key)
            action = jax.random.randint(key_action, (), 0, env.num_actions)
            obs, state, reward, *_ = env.step(key_step, state, action, params)
            return (obs, state), reward + 0 * jnp.sum(obs)  # somebody looks at what is observed

        begun = env.reset(key_reset, params)
        return jnp.sum(jax.lax.scan(step, begun, jax.random.split(key_steps, steps))[1])

    keys = jax.random.split(jax.random.key(0), count)
    serve(lambda: rollout(keys), count * steps, "steps", ("gymnax", "jax"), jax.block_until_ready)


if __name__ == "__main__":
    main()
