"""A law of every model: many futures read on from one memory as each alone does, and copy none of its caches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from siblings import by_day

from icrl.core.registry import models
from icrl.models._futures import futures
from icrl.models._token_policy import Policy, TokenPolicy

PAST, ROOM, TOKENS, WIDTH = 9, 5, 4, 16
VARIANTS = {
    "transformer": [
        {"positions": "rotary"},
        {"attention": "relu", "positions": "none"},
        {"attention_window": 4, "positions": "sinusoidal"},
    ]
}
CASES = [
    by_day(name, settings, day=bool(settings) or name in ("transformer", "gru"))
    for name in models
    for settings in ({}, *VARIANTS.get(name, []))
]


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_futures_are_read_as_each_alone(name, settings):
    config = models[name].Config(width=WIDTH, num_layers=2, **settings)
    model = models[name](config, PAST + ROOM, nnx.Rngs(0))
    policy = Policy.split(TokenPolicy(TOKENS, 3, model, 0.5, nnx.Rngs(1)))
    draw = np.random.default_rng(0)
    past, ahead = draw.normal(size=(PAST, TOKENS)), draw.normal(size=(3, ROOM, TOKENS))
    past, ahead = jnp.asarray(past, jnp.float32), jnp.asarray(ahead, jnp.float32)

    @jax.jit
    def both(policy, past, ahead):
        carry = policy(past, None, policy.initial_carry())[1]
        read, branch = futures(policy, carry, ROOM)
        first, branches = jax.vmap(read, (0, None))(ahead[:, :2], branch)
        second, branches = jax.vmap(read)(ahead[:, 2:], branches)
        alone = jax.vmap(lambda tokens: policy(tokens, None, carry)[0])(ahead)
        return jnp.concatenate([first, second], axis=1), alone, branches

    found, alone, branches = both(policy, past, ahead)
    np.testing.assert_allclose(found, alone, atol=2e-5)
    if name in ("transformer", "hybrid"):
        assert all(PAST + ROOM not in leaf.shape for leaf in jax.tree.leaves(branches))  # no cache of the past
