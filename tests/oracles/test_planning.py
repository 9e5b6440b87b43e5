"""Planning in context with a model that knows the world: the beam finds what brute force over all plans finds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.agents.in_context import InContextAgent
from icrl.agents.planning import PlanningAgent
from icrl.agents.rolling_context import RollingContextAgent
from icrl.core import struct
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import layouts
from icrl.core.types import EnvSpec, Transition
from icrl.envs.dark_room import DarkRoom
from icrl.models._dynamics import Dynamics
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.models.transformer import Transformer, TransformerConfig
from icrl.objectives.dicp import DICP

STATES, ACTIONS, H = 7, 3, 5
SPEC = EnvSpec("Maze", ACTIONS, (1,), 0.0, STATES - 1.0, H, obs_nvec=(STATES,))
RICH = tuple(float(value) for value in (-1, 0, 1, 2, 5))


@struct.dataclass
class Oracle:
    """In place of a trained policy: what it foretells is what happens, what it prefers is ``logits``.

    Its memory is the latest observation, as layout ``interleaved`` tells it.
    """

    successor: jax.Array  # [S, K] int32
    reward: jax.Array  # [S, K] int32, the number of the value
    logits: jax.Array  # [S, K]
    num_values: int = struct.field(pytree_node=False)

    def initial_carry(self):
        return jnp.int32(0)

    def __call__(self, tokens, start=None, carry=None):
        def read(carry, token):
            obs, action = token[1 : 1 + STATES], token[1 + STATES : 1 + STATES + ACTIONS]
            carry = jnp.where(token[0] > 0, jnp.argmax(obs).astype(jnp.int32), carry)
            at = carry, jnp.argmax(action)
            sure = [jax.nn.one_hot(self.successor[at], STATES), jax.nn.one_hot(self.reward[at], self.num_values)]
            return carry, jnp.concatenate([self.logits[carry], *sure, jnp.zeros(1)])

        carry, outputs = jax.lax.scan(read, carry, tokens)
        return outputs, carry


def world(seed, values):
    """A random deterministic world, as an oracle."""
    draw = np.random.default_rng(seed)
    successor = jnp.asarray(draw.integers(STATES, size=(STATES, ACTIONS)), jnp.int32)
    reward = jnp.asarray(draw.integers(len(values), size=(STATES, ACTIONS)), jnp.int32)
    return Oracle(successor, reward, jnp.asarray(draw.normal(size=(STATES, ACTIONS)), jnp.float32), len(values))


def planner(oracle, values=RICH, **settings):
    reader = InContextAgent(
        policy=oracle, layout=layouts["interleaved"](SPEC), max_steps=100, query=jnp.zeros(1, jnp.float32)
    )
    known = {"episode_steps": H, "after": 0, "horizon": 4, "beam": 3**4}
    return PlanningAgent(reader=reader, dynamics=Dynamics(SPEC, values), **{**known, **settings})


@jax.jit
def choices(agent, key, done=0):
    """The action at every observation, ``done`` steps behind an episode's start, by sampling [S] and greedily [S]."""
    state, every = agent.init(key), jnp.arange(STATES, dtype=jnp.float32)[:, None]
    state = state._replace(clock=jnp.int32(done)) if isinstance(agent, PlanningAgent) else state
    keys = jax.random.split(key, STATES)
    return [jax.vmap(act, (0, None, 0))(keys, state, every) for act in (agent.act, agent.act_greedy)]


def best_starts(oracle, values, state, depth):
    """The first actions of the best of all plans."""
    successor, reward = np.asarray(oracle.successor), np.asarray(values)[np.asarray(oracle.reward)]
    plans = list(itertools.product(range(ACTIONS), repeat=depth))
    earned = []
    for plan in plans:
        at, total = state, 0.0
        for action in plan:
            total += reward[at, action]
            at = successor[at, action]
        earned.append(total)
    return {plan[0] for plan, each in zip(plans, earned, strict=True) if each == max(earned)}


def searched(oracle, values, state, depth, count, samples, rule):
    """The first action of a beam search as it is written down, its ties in the policy's order; in Python."""
    successor, reward = np.asarray(oracle.successor), np.asarray(values)[np.asarray(oracle.reward)]
    paths = [(0.0, [], state)]
    for level in range(depth):
        grown = []
        for total, actions, at in paths:
            liked = sorted(range(ACTIONS), key=lambda a: -float(oracle.logits[at, a]))[:samples]
            tried = liked if rule == "paper" or level == 0 else range(ACTIONS)
            grown += [(total + reward[at, a], [*actions, a], successor[at, a]) for a in tried]
        paths = sorted(grown, key=lambda path: -path[0])[:count]  # stable
    return paths[0][1][0]


@pytest.mark.parametrize("rule", ["paper", "code"])
def test_a_narrow_beam_is_the_search_of_its_rule(rule):
    """Rewards of 0 and 1, so that most paths tie, and two of two at each level: each rule loses others."""
    how, told = {"beam": 2, "samples": 2, "rule": rule}, set()
    for seed in range(10):
        oracle = world(seed, (0.0, 1.0))
        found = choices(planner(oracle, (0.0, 1.0), **how), jax.random.key(0))[1]
        for state in range(STATES):
            each = {name: searched(oracle, (0.0, 1.0), state, 4, 2, 2, name) for name in ("paper", "code")}
            assert found[state] == each[rule], (seed, state)
            told.add(each["paper"] == each["code"])
    assert told == {True, False}  # so that these worlds can tell one rule from the other


def test_a_wide_beam_finds_what_brute_force_finds():
    for seed in range(3):
        oracle = world(seed, RICH)
        for found in choices(planner(oracle), jax.random.key(seed)):
            for state, action in enumerate(np.asarray(found)):
                assert action in best_starts(oracle, RICH, state, 4), (seed, state, action)


def test_a_plan_ends_with_the_episode():
    """n steps behind its start at most H - n are planned: else what a new episode pays would count."""
    oracle, differs = world(3, RICH), False
    for done in range(H):
        for state, action in enumerate(np.asarray(choices(planner(oracle), jax.random.key(0), done)[1])):
            assert action in best_starts(oracle, RICH, state, min(4, H - done)), (done, state)
            differs |= action not in best_starts(oracle, RICH, state, 4)
    assert differs  # so that this world can tell


def test_the_clock_counts_the_steps_of_an_episode():
    agent, obs, no = planner(world(3, RICH), after=3), jnp.zeros(1, jnp.float32), jnp.bool_(False)
    state, seen = agent.init(jax.random.key(0)), []
    update = jax.jit(agent.update)
    for step in range(7):
        ends = jnp.bool_(step == 1)  # the first one early
        state = update(state, Transition(obs, jnp.int32(0), jnp.float32(0), obs, ends, no))
        seen.append((int(state.clock), int(state.steps)))
    assert seen == [(1, 1), (0, 2), (1, 3), (2, 3), (3, 3), (4, 3), (0, 3)]


def test_one_beam_and_one_level_is_the_greedy_rule_of_one_step():
    """The most reward foretold; among those that pay as much, the one that the policy prefers, or drew first."""
    oracle = world(4, (0.0, 1.0))
    key = jax.random.key(5)
    sampled, greedy = choices(planner(oracle, (0.0, 1.0), beam=1, horizon=1), key)
    for state, (own, drawn) in enumerate(zip(jax.random.split(key, STATES), sampled, strict=True)):
        pays, logits = np.asarray(oracle.reward[state]), np.asarray(oracle.logits[state])
        assert greedy[state] == max(range(ACTIONS), key=lambda a: (pays[a], logits[a]))
        preference = logits + np.asarray(jax.random.gumbel(own, (ACTIONS,), jnp.float32))
        assert drawn == max(range(ACTIONS), key=lambda a: (pays[a], preference[a]))


def test_where_nothing_is_foretold_or_one_action_is_tried_it_plays_as_the_reader_with_the_same_key():
    rich, key = world(6, RICH), jax.random.key(7)
    poor = rich.replace(reward=jnp.ones((STATES, ACTIONS), jnp.int32))
    for agent in (planner(poor, samples=2, beam=3), planner(rich, samples=1)):
        for found, alone in zip(choices(agent, key), choices(agent.reader, key), strict=True):
            np.testing.assert_array_equal(found, alone)


def test_ranked_by_return_the_plan_counts_what_comes_after_it():
    """One level, two actions that pay nothing: the one with the larger return-to-go foretold, however unlikely."""
    dynamics = Dynamics(SPEC, RICH)
    outputs = jnp.zeros((2, dynamics.num_outputs)).at[:, -1].set(jnp.array([0.5, -0.2])).at[:, STATES + 1].set(3.0)
    foretold = dynamics.predicted(outputs)
    np.testing.assert_allclose(foretold.returns, [0.5 * H, -0.2 * H])
    np.testing.assert_array_equal(foretold.reward, [0.0, 0.0])


# --- on a model that knows nothing: when it plans, and what it may never change ---

ROOM, WINDOW = DarkRoom(size=3, horizon=4), 8


def models(after, **settings):
    """(planner, its reader) of an untrained transformer with a rolling context."""
    objective = DICP(layout=layouts["outcomes"](ROOM.spec), reward_values=("0", "1"))
    layout, rngs = objective.layout, nnx.Rngs(0)
    config = TransformerConfig(width=16, num_layers=2, num_heads=2, init_std=0.5)
    backbone = Transformer(config, layout.num_tokens(WINDOW), rngs)
    policy = Policy.split(TokenPolicy(layout.token_dim, objective.num_outputs, backbone, 0.5, rngs))
    query = jnp.zeros(2, jnp.float32)
    reader = RollingContextAgent(policy=policy, layout=layout, max_steps=WINDOW, query=query, forget=4)
    known = {"episode_steps": 4, "horizon": 3, "beam": 4}
    return PlanningAgent(reader=reader, dynamics=objective.dynamics, after=after, **{**known, **settings}), reader


@jax.jit
def played(agent, keys):
    """What an agent does in one task, [n, T] int32."""
    task = ROOM.task(5)
    return jax.vmap(lambda key: interact(key, ROOM, task, agent, 24).history.action)(keys)


@pytest.fixture(scope="module")
def rollouts():
    """(keys, planner, the reader's actions, the planner's), [n, T]; ranked by return, where there are no ties."""
    keys = jax.random.split(jax.random.key(1), 6)
    agent, reader = models(after=WINDOW, score="return")
    return keys, agent, *(np.asarray(played(each, keys)) for each in (reader, agent))


def test_it_is_inert_until_the_context_is_full_and_plans_from_then_on(rollouts):
    """The same actions, bit for bit, at first; then others at once, in some rollout."""
    _, _, plain, planned = rollouts
    np.testing.assert_array_equal(planned[:, :WINDOW], plain[:, :WINDOW])
    assert (planned != plain).any(0)[WINDOW]


def test_plans_side_by_side_are_each_alone_and_stay_a_branch(rollouts):
    keys, agent, _, planned = rollouts
    np.testing.assert_array_equal(played(agent, jnp.stack([keys[2]] * 6)), np.stack([planned[2]] * 6))
    state = jax.vmap(agent.init)(keys)
    program = str(jax.make_jaxpr(jax.vmap(agent.act))(keys, state, jnp.zeros((6, 2), jnp.float32)))
    assert "cond[" in program and "while[" in program  # else every step pays for a plan


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": WINDOW + 1}, "horizon: got 9, allowed: at most the 8 transitions of the context"),
        ({"samples": 6}, "samples: got 6, allowed: at most 5 actions, or none"),
        ({"rule": "theirs"}, "rule: got 'theirs', allowed: paper or code"),
        ({"beam": 0}, "beam: got 0"),
    ],
)
def test_plans_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        models(after=WINDOW, **settings)
