"""A memory task that a model with memory solves and one without cannot: bsuite's memory_len at L = 32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.agents.in_context import InContextAgent
from icrl.agents.uniform import Uniform
from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.envs.memory_len import MemoryLen
from icrl.evaluation.online import Trial
from icrl.layouts.pairs import Pairs
from icrl.models.s5 import S5Config
from icrl.models.transformer import TransformerConfig
from icrl.objectives.ad import AD
from icrl.recipes.recipe import untrained_policy
from icrl.training.step import FitSettings, initial_state, train_step

L, BATCH = 32, 32
ENV = MemoryLen(length=L)
FIT = FitSettings(train_steps=250, batch_size=BATCH, learning_rate=1e-2, warmup_steps=20, micro_batch=BATCH)


@jax.jit
def episodes(key):
    """Episodes [B, L + 1, ...] of the optimal policy: the source whose actions are predicted."""
    live = partial(interact, env=ENV, task=ENV.default_params, agent=agents["oracle"].for_env(ENV), num_steps=L + 1)
    return jax.vmap(lambda key: live(key).history)(jax.random.split(key, BATCH))


def returns_of(model, backbone) -> np.ndarray:
    """Return of one episode each in 1 000 lives, after training on what the optimal policy does."""
    layout = Pairs(ENV.spec)
    policy = untrained_policy(model, backbone, AD(layout), layout.num_tokens(L + 1), 0, 0)
    state = initial_state(FIT, policy)
    for step in range(FIT.train_steps):
        batch = episodes(key_for(0, "episodes", step))
        state = train_step(FIT, AD(layout), policy.structure, state, batch, jax.random.key(0))
    query = ENV.reset(jax.random.key(0))[0]
    agent = InContextAgent(policy=policy.replace(params=state.params), query=query, layout=layout, max_steps=L + 1)
    return Trial(ENV, TaskSet.of(ENV, [0]).repeat(1000), L + 1, 1).returns(agent)[:, 0]


def test_the_episode_is_bsuites():
    """Observations, rewards and the number of actions of bsuite 0.3.6's MemoryChain, L = 3, two bits."""
    env = MemoryLen(length=3, num_bits=2)
    history = interact(jax.random.key(4), env, env.default_params, Uniform.for_env(env), 8).history
    clock = [1, 1, 2 / 3, 1 / 3]
    np.testing.assert_allclose(history.obs[:, 0], clock + clock, atol=1e-6)
    assert np.all(np.abs(history.obs[[0, 1, 4, 5], 2:]) == 1) and np.all(np.asarray(history.obs[[2, 3], 2:]) == 0)
    np.testing.assert_array_equal(history.obs[0], history.obs[1])
    np.testing.assert_array_equal(history.next_obs[3], [0, 0, 0, 0])
    for first, last in ((0, 3), (4, 7)):
        bit = int(history.obs[first, 2 + int(history.obs[last, 1])] > 0)
        assert float(history.reward[last]) == (1.0 if int(history.action[last]) == bit else -1.0)
    assert np.all(np.asarray(history.reward[jnp.array([0, 1, 2, 4, 5, 6])]) == 0)


@pytest.mark.nightly
def test_s5_remembers():
    assert returns_of("s5", S5Config(width=64, num_layers=1, init_std=0.2)).mean() > 0.95


@pytest.mark.nightly
def test_a_model_that_sees_the_present_alone_does_not():
    """A transformer whose window is one token; 4 s.e. of 1 000 signs are 0.126."""
    blind = TransformerConfig(width=64, num_layers=1, num_heads=1, attention_window=1, positions="none", init_std=0.2)
    assert abs(returns_of("transformer", blind).mean()) < 0.13
