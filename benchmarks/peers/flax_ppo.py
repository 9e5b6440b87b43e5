"""A step of training by a recurrent PPO of the kind that is written around Flax's cells.

A GRU between a linear embedding and two linear heads, in our Bernoulli bandits, with as many of them, steps, epochs and
minibatches as ours. It keeps logits and values from acting, which ours reads again.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from turns import serve, settings

from icrl.envs.bernoulli_bandit import BernoulliBandit

EPOCHS, MINIBATCHES, CLIP, DISCOUNT, LAMBDA = 4, 4, 0.2, 0.99, 0.95


class Cells(nn.Module):
    """A GRU over time, reset where an episode begins."""

    @partial(nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False})
    @nn.compact
    def __call__(self, carry: Any, inputs: Any) -> Any:
        x, start = inputs
        carry = jnp.where(start[:, None], jnp.zeros_like(carry), carry)
        return nn.GRUCell(features=x.shape[-1])(carry, x)


class Peer(nn.Module):
    """Tokens [n, B, D] and starts [n, B] to logits [n, B, K] and values [n, B]."""

    width: int
    num_actions: int

    @nn.compact
    def __call__(self, carry: Any, tokens: Any, start: Any) -> Any:
        carry, y = Cells()(carry, (nn.Dense(self.width)(tokens), start))
        return carry, nn.Dense(self.num_actions)(y), nn.Dense(1)(y)[..., 0]


def peer_step(env: BernoulliBandit, network: Peer, count: int, steps: int, optimizer: Any, state: Any, key: Any) -> Any:
    """One rollout in fresh tasks and its updates."""
    params, opt_state = state
    key_tasks, key_reset, key_steps, key_order = jax.random.split(key, 4)
    tasks = jax.vmap(env.sample_task)(jax.random.split(key_tasks, count))
    obs, states = jax.vmap(env.reset)(jax.random.split(key_reset, count), tasks)

    def act(carry: Any, key: Any) -> Any:
        memory, states, token, start = carry
        key_act, key_env = jax.random.split(key)
        memory, logits, value = network.apply(params, memory, token[None], start[None])
        action = jax.random.categorical(key_act, logits[0])
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits[0]), action[:, None], 1)[:, 0]
        obs, states, reward, _, over, _ = jax.vmap(env.step)(jax.random.split(key_env, count), states, action, tasks)
        after = tokens_of(env, obs, action, reward)
        kept = (token, start, action, log_prob, value[0], reward, over)
        return (memory, states, after, jnp.zeros(count, bool)), kept

    first = tokens_of(env, obs, jnp.full(count, -1), jnp.zeros(count))
    begin = (jnp.zeros((count, network.width)), states, first, jnp.ones(count, bool))
    _, (tokens, start, action, log_prob, value, reward, over) = jax.lax.scan(
        act, begin, jax.random.split(key_steps, steps)
    )

    def back(carry: Any, row: Any) -> Any:
        advantage, later = carry
        reward, value, over = row
        error = reward + DISCOUNT * later * (1 - over) - value
        advantage = error + DISCOUNT * LAMBDA * (1 - over) * advantage
        return (advantage, value), advantage

    zeros = jnp.zeros(count)
    _, advantage = jax.lax.scan(back, (zeros, zeros), (reward / steps, value, over), reverse=True)
    batch = (tokens, start, action, log_prob, value, advantage, advantage + value)

    def loss(params: Any, part: Any) -> Any:
        tokens, start, action, old, old_value, advantage, target = part
        memory = jnp.zeros((tokens.shape[1], network.width))
        _, logits, value = network.apply(params, memory, tokens, start)
        logs = jax.nn.log_softmax(logits)
        ratio = jnp.exp(jnp.take_along_axis(logs, action[..., None], -1)[..., 0] - old)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
        near = old_value + jnp.clip(value - old_value, -CLIP, CLIP)
        value_loss = jnp.maximum((value - target) ** 2, (near - target) ** 2).mean()
        return -surrogate + 0.25 * value_loss + 0.01 * (jnp.exp(logs) * logs).sum(-1).mean()

    def update(state: Any, rows: Any) -> Any:
        params, opt_state = state
        gradient = jax.grad(loss)(params, jax.tree.map(lambda leaf: leaf[:, rows], batch))
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    orders = jax.vmap(lambda key: jax.random.permutation(key, count))(jax.random.split(key_order, EPOCHS))
    return jax.lax.scan(update, (params, opt_state), orders.reshape(EPOCHS * MINIBATCHES, -1))[0]


def tokens_of(env: BernoulliBandit, obs: Any, action: Any, reward: Any) -> Any:
    """Observation, action and reward before, [B, D]."""
    told = [jax.nn.one_hot(action, env.num_actions), reward[:, None], jnp.zeros((len(action), 2))]
    return jnp.concatenate([obs.reshape(len(action), -1), *told], axis=1)


def main() -> None:
    given = settings()
    count, width, horizon, token_dim = (given[name] for name in ("count", "width", "horizon", "token_dim"))
    env = BernoulliBandit(horizon=horizon)
    network = Peer(width, env.num_actions)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3, eps=1e-5))
    tokens = jnp.zeros((1, count, token_dim))
    params = network.init(jax.random.key(0), jnp.zeros((count, width)), tokens, tokens[..., 0] > 0)
    step = jax.jit(partial(peer_step, env, network, count, horizon, optimizer))
    state, turn = [(params, optimizer.init(params))], [0]

    def train() -> Any:
        turn[0] += 1
        state[0] = step(state[0], jax.random.key(turn[0]))
        return state[0]

    serve(train, count * horizon, "steps", ("flax", "jax"), jax.block_until_ready)


if __name__ == "__main__":
    main()
