"""Objectives against their definitions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.types import History
from icrl.datasets.room_contexts import IndependentContexts
from icrl.envs.dark_room import DarkRoom
from icrl.layouts.pairs import Pairs
from icrl.layouts.query_first import QueryFirst
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.models.transformer import Transformer, TransformerConfig
from icrl.objectives.ad import AD
from icrl.objectives.dpt import DPT

ENV = DarkRoom(size=4, horizon=6)
STEPS = 12


@pytest.fixture(scope="module")
def policy():
    layout = Pairs(ENV.spec)
    config = TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.5)
    backbone = Transformer(config, layout.num_tokens(STEPS), nnx.Rngs(0))
    return Policy.split(TokenPolicy(layout.token_dim, ENV.num_actions, backbone, 0.5, nnx.Rngs(1)))


@pytest.fixture(scope="module")
def windows():
    agent = agents["uniform"].for_env(ENV)
    keys = jax.random.split(jax.random.key(0), 3)
    return jax.jit(jax.vmap(lambda key: interact(key, ENV, ENV.task(5), agent, STEPS).history))(keys)


@jax.jit
def read(policy, tokens):
    """Logits [K] of the last decision."""
    return policy(tokens)[0][-1]


@partial(jax.jit, static_argnames="objective")
def cross_entropy(objective, policy, given, key=None):
    return objective.cross_entropy(policy, given, key)


def log_probs(policy, windows: History, step: int) -> np.ndarray:
    """log p(a | history so far, o) [B, K] of one decision, read from its own prefix."""
    layout, rows = Pairs(ENV.spec), []
    for b in range(3):
        past = jax.tree.map(lambda field, b=b: field[b, :step], windows)
        rows.append(jax.nn.log_softmax(read(policy, layout.sequence(past, windows.obs[b, : step + 1]))))
    return np.asarray(jnp.stack(rows))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_ad_is_the_cross_entropy_of_the_smoothed_action(policy, windows, smoothing):
    found = np.asarray(cross_entropy(AD(Pairs(ENV.spec), label_smoothing=smoothing), policy, windows))
    assert found.shape == (3, STEPS)
    for step in (0, 7, STEPS - 1):
        log_p = log_probs(policy, windows, step)
        own = np.take_along_axis(log_p, np.asarray(windows.action)[:, [step]], axis=1)[:, 0]
        expected = -(1 - smoothing) * own - smoothing * log_p.mean(-1)
        np.testing.assert_allclose(found[:, step], expected, atol=1e-5)


def test_masks_blank_tokens_in_training_only(policy, windows):
    plain, masked, blind = (AD(Pairs(ENV.spec), mask_prob=p) for p in (0.0, 0.4, 1.0))
    key = jax.random.key(0)
    np.testing.assert_array_equal(cross_entropy(masked, policy, windows), cross_entropy(plain, policy, windows))
    np.testing.assert_array_equal(cross_entropy(plain, policy, windows, key), cross_entropy(plain, policy, windows))
    once, again = (cross_entropy(masked, policy, windows, jax.random.key(seed)) for seed in (0, 1))
    assert not np.array_equal(once, again)
    np.testing.assert_array_equal(once, cross_entropy(masked, policy, windows, key))
    other = windows._replace(reward=windows.reward + 1.0, obs=3.0 - windows.obs)
    np.testing.assert_array_equal(cross_entropy(blind, policy, windows, key), cross_entropy(blind, policy, other, key))


def test_dpt_asks_its_one_query_or_each_prefix_its_own(policy):
    layout, ids = Pairs(ENV.spec), np.arange(4)
    stream = IndependentContexts(ENV, np.arange(16), 5, seed=0, num_queries=6)
    contexts = stream.fetch(ids)
    logits = jax.random.normal(jax.random.key(0), (len(contexts.label), layout.num_tokens(5), ENV.num_actions))
    log_p = jax.nn.log_softmax(logits[:, layout.decisions(5)])
    asked = np.take_along_axis(np.asarray(log_p), np.asarray(contexts.label)[..., None], -1)[..., 0]
    np.testing.assert_allclose(DPT(layout).scores(logits, contexts), -asked, atol=1e-5)
    found = np.asarray(cross_entropy(DPT(layout), policy, contexts))
    assert found.shape == (4, 6)
    for prefix in (0, 3, 5):
        asked = contexts._replace(query=contexts.query[:, : prefix + 1], label=contexts.label[:, : prefix + 1])
        told = asked._replace(history=jax.tree.map(lambda field, n=prefix: field[:, :n], contexts.history))
        np.testing.assert_allclose(found[:, prefix], cross_entropy(DPT(layout), policy, told)[:, -1], atol=1e-5)
    with pytest.raises(InputError, match=r"layout: got .QueryFirst."):
        DPT(QueryFirst(ENV.spec)).cross_entropy(policy, contexts)
