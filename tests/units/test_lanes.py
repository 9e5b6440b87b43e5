"""What runs along tasks gives what it gave along arms, however it is mapped, and in loops that can be vectors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.agents.posterior_gaussian import PosteriorGaussian
from icrl.agents.thompson_gaussian import ThompsonGaussian
from icrl.core.lanes import argmax_first, tasks_behind
from icrl.core.seeding import key_for
from icrl.core.threefry import normal, uniform

TASKS, ARMS = 300, 5


@tasks_behind
def scaled_total(scale, values, extra):
    return jnp.sum(scale["by"] * (values + extra), axis=0)


def test_every_way_of_mapping_gives_the_same():
    """None, some or all of the operands mapped, along any axis, once or twice."""
    scale, values = np.arange(1.0, 4.0), np.arange(24.0).reshape(3, 2, 4)
    extra = np.array([5.0, 6.0, 7.0, 8.0])
    expected = scale[:, None] * (values + extra).sum(-1)
    one = jax.vmap(scaled_total, ({"by": None}, 0, None))
    both = jax.vmap(one, ({"by": 0}, 0, None))
    np.testing.assert_array_equal(both({"by": scale}, values, extra), expected)
    np.testing.assert_array_equal(one({"by": 2.0}, values[0], extra), 2 * (values[0] + extra).sum(-1))
    np.testing.assert_array_equal(scaled_total({"by": 2.0}, values[0, 0], extra), 2 * (values[0, 0] + extra).sum())
    sideways = jax.vmap(scaled_total, ({"by": None}, 1, None), 0)
    np.testing.assert_array_equal(sideways({"by": 2.0}, values[0].T, extra), 2 * (values[0] + extra).sum(-1))


def test_argmax_first_is_argmax():
    values = jax.random.randint(key_for(0, "lanes"), (ARMS, TASKS), 0, 3).astype(jnp.float32)
    values = values.at[:, 0].set(-jnp.inf).at[:, 1].set(jnp.array([0.0, -0.0, 0.0, -1.0, 0.0]))
    found = argmax_first(values)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, jnp.argmax(values, axis=0))


def plainly(agent, key, state):
    """The rule as it is told, of one task."""
    if isinstance(agent, PosteriorGaussian):
        return jnp.argmax(agent.posterior(state).at_level(uniform(key, (ARMS,), minval=1e-7)))
    mean, std = agent.posterior(state)
    return jnp.argmax(mean + std * normal(key, (ARMS,)))


def states(agent):
    """Of as many tasks: arms that nobody pulled, and means up to far outside of the range."""
    count = jax.random.randint(key_for(1, "lanes"), (TASKS, ARMS), 0, 9)
    mean = 0.5 + 0.7 * jax.random.normal(key_for(2, "lanes"), (TASKS, ARMS))
    return agent.no_pulls()._replace(count=count, total=count * mean)


@pytest.mark.parametrize("kind", [PosteriorGaussian, ThompsonGaussian])
def test_agents_act_as_their_rule_says(kind):
    """In tasks mapped together, and with settings that vary as well."""
    agent, keys = kind(num_arms=ARMS), jax.random.split(key_for(3, "lanes"), TASKS)
    found = jax.jit(jax.vmap(lambda key, state: agent.act(key, state, None)))(keys, states(agent))
    expected = jax.jit(jax.vmap(lambda key, state: plainly(agent, key, state)))(keys, states(agent))
    assert len(np.unique(expected)) == ARMS
    np.testing.assert_array_equal(found, expected)

    def swept(rule):
        def one(noise_std, key, state):
            return rule(kind(num_arms=ARMS, noise_std=noise_std), key, state)

        return jax.jit(jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None)))(noises, keys, states(agent))

    noises = jnp.array([0.1, 0.9])
    found = swept(lambda agent, key, state: agent.act(key, state, None))
    np.testing.assert_array_equal(found, swept(plainly))
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize("kind", [PosteriorGaussian, ThompsonGaussian])
def test_draws_are_no_part_of_a_reduction(kind):
    """Where XLA computes logarithms inside of a reduction it makes no vectors: an eighth of the speed."""
    agent, keys = kind(num_arms=ARMS), jax.random.split(key_for(3, "lanes"), TASKS)
    assert loops_of(lambda key, state: agent.act(key, state, None), keys, states(agent)) == set()
    assert loops_of(lambda key, state: plainly(agent, key, state), keys, states(agent)) != set()


def loops_of(function, *operands):
    """Names of XLA's loops of ``function``, mapped, that reduce and take logarithms."""
    program = jax.jit(jax.vmap(function)).lower(*operands).compile().as_text()
    loops = dict(re.findall(r"^%(\S+) \((.*?)^}", program, flags=re.MULTILINE | re.DOTALL))
    return {name for name, body in loops.items() if " reduce(" in body and re.search(r" log(-plus-one)?\(", body)}
