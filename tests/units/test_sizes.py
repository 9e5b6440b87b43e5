"""Parameter counts, and models of a wanted one."""

import dataclasses

import jax
import pytest
from flax import nnx

from icrl.core.errors import InputError
from icrl.core.registry import models
from icrl.experiments.ad_darkroom import ADDarkRoom
from icrl.models._sizes import matched, size_of
from icrl.models._token_policy import TokenPolicy
from icrl.models.transformer import TransformerConfig

TARGET = 60_000
PAPER = ADDarkRoom.presets["paper"].backbone
LIGHT = dataclasses.replace(PAPER, num_layers=2, width=16, num_heads=2)


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


# Son et al. 2025 (DICP) and Chen et al. 2025 (LHF): a token is Linear(10) of a transition or a row of Embedding(81)
# for the state to act in. Both are columns of one linear map of 91 features, (s, a one-hot, r, s') and a one-hot state.
PUBLISHED = {"AD on grids": (PAPER, 69_413), "lightweight AD": (LIGHT, 9_941)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    config, published = PUBLISHED[name]
    assert num_parameters("transformer", config, token_dim=91) == published


def test_published_counts_of_other_heads_and_tables():
    """What is not a linear embedding and an action head: the published tables and heads on top of the same backbone."""
    backbone = size_of("transformer", PAPER).parameters
    action, transition, act_table = 33 * 5, 11 * 32, 5 * 32
    dynamics = 33 * 2 + 33 * 81  # reward (two values), next state
    query = 3 * 32  # DPT's linear map of a query state, which its code does not use
    assert backbone == 66_304
    assert backbone + transition + 81 * 32 + action + act_table + dynamics == 72_312  # AD with dynamics
    assert backbone + transition + action + act_table + query == 67_077  # DPT
    assert backbone + transition + action + act_table + query + dynamics == 69_816  # DPT with dynamics
