"""Parameter counts, and models of a wanted one."""

import jax
import pytest
from flax import nnx

from icrl.errors import InputError
from icrl.models.sizes import matched, size_of
from icrl.models.token_policy import TokenPolicy
from icrl.models.transformer import TransformerConfig
from icrl.registry import models

TARGET = 60_000


def num_parameters(name, config, token_dim, num_actions=5):
    """Of a whole policy, from shapes alone."""

    def policy():
        rngs = nnx.Rngs(0)
        return TokenPolicy(token_dim, num_actions, models[name](config, 1, rngs), 0.02, rngs)

    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(nnx.eval_shape(policy), nnx.Param)))


ALL = [pytest.param(name, marks=[] if name in ("mamba", "transformer") else pytest.mark.nightly) for name in models]


@pytest.mark.parametrize("name", ALL)
def test_every_model_can_be_as_large_as_another(name):
    config = matched(name, TARGET, capacity=200)
    assert abs(size_of(name, config, 200).parameters - TARGET) <= 0.03 * TARGET
    assert config.num_layers == models[name].Config().num_layers  # all but the sizes stays


def test_the_ends_of_a_policy_can_be_counted_in():
    config = matched("gru", TARGET, per_feature=8 + 1 + 5, tolerance=0.1)
    assert num_parameters("gru", config, 8) == size_of("gru", config).parameters + 14 * config.width + 5


def test_a_matched_model_of_its_own_size_is_itself():
    config = TransformerConfig(width=32, num_layers=2, num_heads=4)
    assert matched("transformer", size_of("transformer", config).parameters, config) == config


def test_a_size_out_of_reach_is_said():
    with pytest.raises(InputError, match="parameters: got 5, allowed: what gru can have, such as "):
        matched("gru", 5)
