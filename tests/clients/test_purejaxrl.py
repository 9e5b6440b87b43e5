"""PPO in the way of PureJaxRL (Lu et al. 2022): a jitted program over gymnax's wrappers, only the environment ours."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen as nn

from icrl.core.registry import environments

wrappers = pytest.importorskip("gymnax.wrappers.purerl")

NUM_ENVS, NUM_STEPS, EPOCHS = 32, 64, 4
GAMMA, LAMBDA, CLIP, ENTROPY = 0.95, 0.9, 0.2, 0.01


class ActorCritic(nn.Module):
    num_actions: int

    @nn.compact
    def __call__(self, obs):
        hidden = nn.tanh(nn.Dense(32)(nn.tanh(nn.Dense(32)(obs))))
        return nn.Dense(self.num_actions)(hidden), nn.Dense(1)(hidden)[..., 0]


def trained(env, params, key, num_updates):
    """Mean return of the episodes that ended, [num_updates]."""
    env = wrappers.LogWrapper(wrappers.FlattenObservationWrapper(env))
    network, optimizer = ActorCritic(env.action_space(params).n), optax.adam(5e-3)
    key, key_net, key_env = jax.random.split(key, 3)
    obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(key_env, NUM_ENVS), params)
    weights = network.init(key_net, obs[0])

    def step(carry, key):
        weights, obs, state = carry
        key_act, key_step = jax.random.split(key)
        logits, value = network.apply(weights, obs)
        action = jax.random.categorical(key_act, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
        keys = jax.random.split(key_step, NUM_ENVS)
        next_obs, state, reward, terminated, truncated, info = jax.vmap(env.step, (0, 0, 0, None))(
            keys, state, action, params
        )
        done = terminated | truncated
        return (weights, next_obs, state), ((obs, action, log_prob, value, reward, done), info)

    def loss(weights, obs, action, log_prob, advantage, target):
        logits, value = network.apply(weights, obs)
        log_probs = jax.nn.log_softmax(logits)
        ratio = jnp.exp(jnp.take_along_axis(log_probs, action[..., None], -1)[..., 0] - log_prob)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
        return -gain + 0.5 * jnp.square(value - target).mean() - ENTROPY * entropy

    def update(carry, key):
        weights, moments, obs, state = carry
        (_, obs, state), (batch, info) = jax.lax.scan(step, (weights, obs, state), jax.random.split(key, NUM_STEPS))
        seen, action, log_prob, value, reward, done = batch
        following = jnp.concatenate([value[1:], network.apply(weights, obs)[1][None]])
        surprise = reward + GAMMA * following * ~done - value
        back = lambda total, given: (given[0] + GAMMA * LAMBDA * ~given[1] * total,) * 2  # noqa: E731
        advantage = jax.lax.scan(back, jnp.zeros(NUM_ENVS), (surprise, done), reverse=True)[1]
        scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(EPOCHS):
            slope = jax.grad(loss)(weights, seen, action, log_prob, scaled, advantage + value)
            change, moments = optimizer.update(slope, moments)
            weights = optax.apply_updates(weights, change)
        ended = info["returned_episode"]
        mean = (info["returned_episode_returns"] * ended).sum() / jnp.maximum(ended.sum(), 1)
        return (weights, moments, obs, state), mean

    start = (weights, optimizer.init(weights), obs, state)
    return jax.lax.scan(update, start, jax.random.split(key, num_updates))[1]


@pytest.mark.nightly
def test_ppo_in_the_way_of_purejaxrl_learns_in_a_room():
    env = environments["DarkRoom-v0"](size=3, horizon=10)
    run = jax.jit(partial(trained, env, num_updates=60))
    returns = run(params=env.default_params, key=jax.random.key(0))
    assert returns[-5:].mean() > returns[:5].mean() + 1.5
