"""What the head says of the world, and objective dicp, by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents, environments, experiments, layouts
from icrl.core.types import EnvSpec, History
from icrl.envs.dark_room import DarkRoom
from icrl.layouts.outcomes import Outcomes
from icrl.models._dynamics import Dynamics, Outcome
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.models.transformer import Transformer, TransformerConfig
from icrl.objectives.ad import AD
from icrl.objectives.dicp import DICP, returns_to_go

ROOM = DarkRoom(size=3, horizon=4)
REAL = EnvSpec("Real", 2, (2,), -1.0, 1.0, 10)


def outcome(next_obs, reward, returns):
    return Outcome(*(jnp.asarray(x, jnp.float32) for x in (next_obs, reward, returns)))


def test_a_numbered_observation_is_one_choice_and_the_likeliest_is_foretold():
    dynamics = Dynamics(ROOM.spec, (0.0, 1.0), std=0.5)
    assert dynamics.sizes == (9, 2, 1) and dynamics.num_outputs == 12
    outputs = jnp.zeros(12).at[7].set(2.0).at[10].set(1.0).at[11].set(0.25)
    foretold = dynamics.predicted(outputs)
    np.testing.assert_array_equal(foretold.next_obs, [2, 1])  # 7 = 2 * 3 + 1
    assert (float(foretold.reward), float(foretold.returns)) == (1.0, 1.0)  # 0.25 H
    scores = dynamics.scores(outputs, outcome([2, 1], 1.0, 2.0))
    np.testing.assert_allclose(scores.next_obs, math.log(math.exp(2) + 8) - 2, rtol=1e-6)
    np.testing.assert_allclose(scores.reward, math.log(math.e + 1) - 1, rtol=1e-6)
    np.testing.assert_allclose(scores.returns, ((0.5 - 0.25) / 0.5) ** 2 / 2, rtol=1e-6)


def test_many_observations_are_choices_by_coordinate():
    spec = environments["DarkRoom-v0"](size=40).spec  # 1 600 cells
    dynamics = Dynamics(spec, (0.0, 1.0))
    assert dynamics.sizes == (80, 2, 1)
    outputs = jnp.zeros((2, 83)).at[0, 39].set(1.0).at[0, 40 + 5].set(1.0)
    np.testing.assert_array_equal(dynamics.predicted(outputs).next_obs, [[39, 5], [0, 0]])
    scores = dynamics.scores(outputs, outcome([[39, 5], [1, 1]], [0, 0], [0, 0]))
    np.testing.assert_allclose(scores.next_obs, [2 * math.log1p(39 / math.e), 2 * math.log(40)], rtol=1e-5)


@pytest.mark.parametrize(("std", "sizes"), [(0.3, (2, 1, 1)), (None, (4, 2, 2))])
def test_real_numbers_have_a_gaussian(std, sizes):
    dynamics = Dynamics(REAL, std=std)
    assert dynamics.sizes == sizes
    outputs, deviation = jnp.arange(float(sum(sizes))) / 10, std
    foretold, seen = dynamics.predicted(outputs), outcome([0.4, 0.0], 1.0, 3.0)
    np.testing.assert_allclose(foretold.next_obs, [0.0, 0.1])
    scores = dynamics.scores(outputs, seen)
    by_hand = 0.0
    for place, x in enumerate((0.4, 0.0)):
        deviation = std or 0.01 + math.log1p(math.exp(0.2 + place / 10))
        by_hand += ((x - place / 10) / deviation) ** 2 / 2 + (0.0 if std else math.log(deviation))
    np.testing.assert_allclose(scores.next_obs, by_hand, rtol=1e-5)
    np.testing.assert_allclose(foretold.reward, outputs[sizes[0]])
    np.testing.assert_allclose(foretold.returns, 10 * outputs[sizes[0] + sizes[1]])


def test_returns_to_go_end_with_their_episode():
    reward, no = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]), jnp.zeros(6, bool)
    history = History(jnp.zeros((6, 1)), no, reward, jnp.zeros((6, 1)), no.at[1].set(True), no.at[4].set(True))
    returns, known = returns_to_go(history)
    np.testing.assert_array_equal(returns, [3, 2, 28, 24, 16, 32])
    np.testing.assert_array_equal(known, [True] * 5 + [False])  # the end of the last one is not in it


@pytest.fixture(scope="module")
def batch():
    keys = jax.random.split(jax.random.key(0), 3)
    uniform = agents["uniform"].for_env(ROOM)
    return jax.vmap(lambda key: interact(key, ROOM, ROOM.task(5), uniform, 12).history)(keys)


def policy_of(objective, seed=0):
    rngs = nnx.Rngs(seed)
    backbone = Transformer(TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.5), 40, rngs)
    return Policy.split(TokenPolicy(objective.layout.token_dim, objective.num_outputs, backbone, 0.5, rngs))


@pytest.mark.parametrize("name", ["outcomes", pytest.param("interleaved", marks=pytest.mark.nightly)])
def test_the_loss_is_that_of_the_base_and_of_what_follows_each_action(name, batch):
    """Read off the action tokens of all steps but the last, whose token is not there."""
    layout, key = layouts[name](ROOM.spec), jax.random.key(1)
    objective = DICP(layout=layout, dynamics_weight=0.5, reward_values=("0", "1"))
    policy = policy_of(objective)
    outputs = jax.vmap(policy)(objective.inputs(batch))[0]
    returns, _ = jax.vmap(returns_to_go)(batch)
    stride = 2 if name == "outcomes" else 3
    parts = np.zeros(3)
    for row in range(3):
        for step in range(11):
            read = outputs[row, stride * step + 1, 5:]  # the query, then the action
            seen = Outcome(batch.next_obs[row, step], batch.reward[row, step], returns[row, step])
            parts += np.asarray(objective.dynamics.scores(read, seen)) / 33
    base = AD(layout).scores(outputs[..., :5], batch)
    np.testing.assert_allclose(objective.loss(policy, batch, key), base.mean() + 0.5 * parts.sum(), rtol=2e-5)
    report = objective.report(policy, batch)
    np.testing.assert_allclose(report["val_loss"], base.mean(), rtol=2e-5)
    found = [report[part] for part in ("val_next_obs", "val_reward", "val_return")]
    np.testing.assert_allclose(found, parts, rtol=2e-5)


@pytest.mark.parametrize("name", ["outcomes", "interleaved"])
def test_an_action_token_knows_the_action_and_nothing_of_what_came_of_it(name, batch):
    layout = layouts[name](ROOM.spec)
    history = jax.tree.map(lambda field: field[0], batch)
    at, queries = np.asarray(layout.outcomes(12)), jnp.append(history.obs, history.next_obs[-1:], axis=0)
    tokens = layout.sequence(history, queries)
    for step in (0, 4, 11):
        others = {
            "reward": history.reward.at[step].add(1.0),
            "next_obs": history.next_obs.at[step].set(jnp.array([2.0, 0.0])),
            "truncated": history.truncated.at[step].set(True),
            "terminated": history.terminated.at[step].set(True),
        }
        outcome = layout.sequence(history._replace(**others), queries)
        np.testing.assert_array_equal(outcome[: at[step] + 1], tokens[: at[step] + 1])
        assert (outcome != tokens).any()
        action = layout.sequence(history._replace(action=history.action.at[step].add(-1) % 5), queries)
        np.testing.assert_array_equal(action[: at[step]], tokens[: at[step]])
        assert (action[at[step]] != tokens[at[step]]).any()


class TheirTokens(Outcomes):
    """Tokens of as many numbers as theirs: a transition (s, a one-hot, s', r), or one of 81 cells, or an action."""

    def __init__(self, spec, has_cells):
        object.__setattr__(self, "spec", dataclasses.replace(spec, obs_nvec=()))
        object.__setattr__(self, "cells", 81 * has_cells)

    @property
    def token_dim(self):
        return self._transition_dim + self.cells + self.num_actions


@pytest.mark.parametrize(("has_cells", "wanted"), [(True, 72_312), (False, 69_816 - 96)], ids=["AD", "DPT"])
def test_the_published_model_has_as_many_parameters(has_cells, wanted):
    """Son et al. 2025 on the 9 x 9 room, with dynamics; of theirs for DPT 96, an embedding of queries, are never used.

    One linear map of a token is their embeddings side by side: 2 + 5 + 1 + 2 numbers of a transition, 81 cells of a
    query with base ad (with base dpt it goes through that of transitions), 5 actions. The head gives 5 + 81 + 2
    numbers; theirs has no return-to-go, ours does, one number more for each feature and its bias.
    """
    preset = experiments["dicp"].presets["paper"]
    layout = TheirTokens(preset.env.spec, has_cells)
    dynamics = Dynamics(preset.env.spec, (0.0, 1.0))
    backbone = Transformer(preset.backbone, 80, nnx.Rngs(0))
    outputs = layout.num_actions + dynamics.num_outputs
    policy = Policy.split(TokenPolicy(layout.token_dim, outputs, backbone, 0.02, nnx.Rngs(0)))
    returns = 32 + 1
    assert policy.num_parameters - returns == wanted


def test_layouts_without_an_action_token_are_refused():
    for name in ("pairs", "steps", "query-first"):
        with pytest.raises(InputError, match=r"^layout: got .*allowed: one with an action token"):
            DICP(layout=layouts[name](ROOM.spec))


@pytest.mark.parametrize("values", [("0", "x"), ("1",), ("0", "0.0"), ("0", "inf")])
def test_reward_values_that_are_none_are_refused(values):
    with pytest.raises(InputError, match=r"^reward_values: got "):
        DICP(layout=layouts["outcomes"](ROOM.spec), reward_values=values)
