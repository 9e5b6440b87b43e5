"""DPT in rooms: independent contexts are what they say, and a frozen context stands still until its episode ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.agents.frozen_context import FrozenContextAgent
from icrl.agents.in_context import InContextAgent
from icrl.agents.uniform import Uniform
from icrl.core.errors import InputError
from icrl.core.registry import agents, layouts
from icrl.core.tasks import TaskSet
from icrl.core.types import History
from icrl.datasets.contexts import MixedContexts, StoredContexts, store_contexts
from icrl.datasets.room_contexts import IndependentContexts, RolloutContexts
from icrl.envs.corridor import Corridor
from icrl.envs.dark_room import DarkRoomCorner
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.evaluation.offline import offline_returns
from icrl.layouts.query_first import QueryFirst
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.models.transformer import Transformer, TransformerConfig

ENV = DarkRoomCorner(size=4, horizon=6)
GOALS = np.array([3, 7, 12])


def stream(**settings):
    return IndependentContexts(ENV, GOALS, 50, seed=0, **settings)


def lived(source="uniform", **settings):
    agent = agents[source].for_env(ENV)
    return RolloutContexts(ENV, GOALS, 12, seed=0, num_queries=13, source=agent, **settings)


def in_turn(contexts, count):
    """Contexts 0 .. count - 1, number i in goal i % 3."""
    return contexts.in_tasks(np.arange(count, dtype=np.uint32), TaskSet.of(ENV, GOALS[np.arange(count) % 3]).params)


def optimal(goal, cells):
    """Towards ``goal`` along x, then y, else stay."""
    gap = goal - cells
    along_y = np.where(gap[..., 1] > 0, 2, np.where(gap[..., 1] < 0, 3, 4))
    return np.where(gap[..., 0] > 0, 0, np.where(gap[..., 0] < 0, 1, along_y))


@pytest.fixture(scope="module")
def policy():
    layout = QueryFirst(ENV.spec)
    backbone = Transformer(TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.5), 7, nnx.Rngs(0))
    return Policy.split(TokenPolicy(layout.token_dim, 5, backbone, 0.5, nnx.Rngs(1)))


def test_a_context_depends_on_its_id_alone_and_is_stored_exactly(tmp_path):
    every, some = stream().fetch(np.arange(20)), stream().fetch(np.array([11, 3]))
    assert all(
        np.array_equal(a[np.array([11, 3])], b)
        for a, b in zip(jax.tree.leaves(every), jax.tree.leaves(some), strict=True)
    )
    store_contexts(tmp_path, stream(), 20, {})
    stored = StoredContexts(tmp_path).fetch(np.arange(20))
    assert all(map(np.array_equal, jax.tree.leaves(stored), jax.tree.leaves(every)))


@pytest.mark.parametrize("num_queries", [1, 51])
def test_transitions_are_steps_from_uniform_states_and_labels_are_optimal(num_queries):
    found = in_turn(stream(num_queries=num_queries), 300)
    history = jax.tree.map(np.asarray, found.history)
    goal = np.stack([GOALS // 4, GOALS % 4], 1)[np.arange(300) % 3]
    moves = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [0, 0]])[history.action]
    np.testing.assert_array_equal(history.next_obs, np.clip(history.obs + moves, 0, 3))
    np.testing.assert_array_equal(history.reward, (history.next_obs == goal[:, None]).all(-1))
    cells = np.bincount((history.obs @ [4, 1]).astype(int).ravel(), minlength=16)
    assert np.abs(cells - 15_000 / 16).max() < 4.3 * (15_000 / 16) ** 0.5
    np.testing.assert_array_equal(found.label, optimal(goal[:, None], np.asarray(found.query)))
    assert found.label.shape == (300, num_queries)


def test_tasks_are_drawn_from_the_given_ones():
    found = stream().fetch(np.arange(500))
    paid = np.asarray(found.history.reward) > 0
    cells = (np.asarray(found.history.next_obs) @ [4, 1]).astype(int)[paid]
    assert set(cells.tolist()) == set(GOALS.tolist())


def test_a_lived_context_is_a_walk_through_whole_episodes_with_the_optimal_action_at_every_state():
    found = in_turn(lived(elsewhere=0.0), 60)
    history, query = jax.tree.map(np.asarray, found.history), np.asarray(found.query)
    goal = np.stack([GOALS // 4, GOALS % 4], 1)[np.arange(60) % 3]
    moves = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [0, 0]])[history.action]
    np.testing.assert_array_equal(history.next_obs, np.clip(history.obs + moves, 0, 3))
    np.testing.assert_array_equal(history.reward, (history.next_obs == goal[:, None]).all(-1))
    begins = np.arange(13) % 6 == 0
    np.testing.assert_array_equal(query[:, begins], 0)
    np.testing.assert_array_equal(query[:, 1:][:, ~begins[1:]], history.next_obs[:, ~begins[1:]])
    np.testing.assert_array_equal(query[:, :-1], history.obs)
    np.testing.assert_array_equal(found.label, optimal(goal[:, None], query))


def test_a_lived_context_is_asked_about_other_states_as_often_as_it_says_and_labelled_there():
    here, away = (in_turn(lived(elsewhere=p), 300) for p in (0.0, 0.5))
    assert all(map(np.array_equal, here.history, away.history))
    moved = np.mean(np.any(np.asarray(here.query != away.query), -1))
    assert abs(moved - 0.5 * 15 / 16) < 4.3 * (0.25 / (300 * 13)) ** 0.5
    goal = np.stack([GOALS // 4, GOALS % 4], 1)[np.arange(300) % 3]
    np.testing.assert_array_equal(away.label, optimal(goal[:, None], np.asarray(away.query)))


def test_a_lived_context_may_begin_with_a_later_episode():
    """Posterior sampling that has seen some episodes goes straight to the goal more often than one that has not."""
    first, later = (lived("posterior-task", skip=skip).fetch(np.arange(400)).history.reward for skip in (0, 3))
    first, later = (np.asarray(reward)[:, :6].sum(1) for reward in (first, later))
    assert later.mean() - first.mean() > 4.3 * ((first.var() + later.var()) / 400) ** 0.5


def test_a_later_episode_begins_where_the_one_before_has_ended():
    """Also in a world whose episodes end early: contexts of a rollout begin at the start, whatever they skip."""
    env = Corridor(length=2, horizon=5)
    made = RolloutContexts(env, None, 8, seed=0, num_queries=9, source=Uniform.for_env(env), elsewhere=0.0, skip=6)
    found = made.fetch(np.arange(60))
    assert np.all(found.history.obs[:, 0] == 0)
    assert found.history.terminated.sum() > 60


def test_contexts_of_several_sources_take_turns():
    walk, plain = lived(), IndependentContexts(ENV, GOALS, 12, seed=0, num_queries=13)
    mixed, ids = MixedContexts((walk, plain, walk)), np.array([7, 0, 4, 5, 9, 1])
    found = mixed.fetch(ids)
    for row, number in enumerate(ids):
        alone = (plain if number % 3 == 1 else walk).fetch(ids[row : row + 1])
        same = jax.tree.map(lambda a, b, row=row: np.array_equal(a[row], b[0]), found, alone)
        assert all(jax.tree.leaves(same)), number
    with pytest.raises(InputError, match="sources"):
        MixedContexts((walk, stream()))


def test_a_context_stands_still_until_the_episode_ends(policy):
    agent = FrozenContextAgent(policy=policy, layout=QueryFirst(ENV.spec), max_steps=6)
    lived = stream().fetch(np.arange(1)).history
    episodes = [History(*(field[0, low : low + 6] for field in lived)) for low in (0, 6)]
    obs, state = jnp.array([1.0, 2.0]), agent.init(jax.random.key(0))
    logits, update = jax.jit(agent.logits), jax.jit(agent.update)
    read = jax.jit(lambda tokens: policy(tokens)[0][-1])
    for t in range(12):
        if t < 6:
            expected = read(agent.layout.prompt(obs))
        else:
            expected = read(agent.layout.sequence(episodes[0], jnp.broadcast_to(obs, (7, 2))))
        np.testing.assert_allclose(logits(state, obs), expected, atol=1e-5, err_msg=f"step {t}")
        state = update(state, jax.tree.map(lambda field, t=t: field[t % 6], episodes[t // 6]))
    np.testing.assert_array_equal(state.context.action, episodes[1].action)


@pytest.mark.parametrize("layout", ["query-first", "pairs"])
def test_an_episode_that_ends_early_is_a_shorter_context(layout):
    """Ends after 4 steps (terminated), 6 (the limit) and 2 (truncated): read like an agent that saw nothing else."""
    made = layouts[layout](ENV.spec)
    backbone = Transformer(
        TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.5), made.num_tokens(6), nnx.Rngs(0)
    )
    policy = Policy.split(TokenPolicy(made.token_dim, 5, backbone, 0.5, nnx.Rngs(1)))
    agent = FrozenContextAgent(policy=policy, layout=made, max_steps=6)
    rows = History(*(field[0] for field in stream().fetch(np.arange(1)).history))
    ends = np.zeros(50, bool)
    ends[[3, 11]] = True
    rows = rows._replace(terminated=jnp.asarray(ends & (np.arange(50) == 3)), truncated=jnp.asarray(ends))
    obs, logits, update = jnp.array([1.0, 2.0]), jax.jit(agent.logits), jax.jit(agent.update)
    reader = InContextAgent(policy=policy, layout=made, max_steps=6, query=obs)
    state, saw, read = agent.init(jax.random.key(0)), reader.init(jax.random.key(0)), jax.jit(reader.update)
    shown = reader.logits(saw, obs)
    for t in range(12):
        np.testing.assert_allclose(logits(state, obs), shown, atol=1e-5, err_msg=f"step {t}")
        row = jax.tree.map(lambda field, t=t: field[t], rows)
        state, saw = update(state, row), read(saw, row)
        if t + 1 in (4, 10, 12):
            shown, saw = reader.logits(saw, obs), reader.init(jax.random.key(0))
            assert int(state.fill) == {4: 4, 10: 6, 12: 2}[t + 1] and int(state.step) == 0
    np.testing.assert_allclose(logits(state, obs), shown, atol=1e-5)


def test_a_given_context_is_never_replaced(policy):
    lived = stream().fetch(np.arange(1)).history
    context = History(*(field[0, :6] for field in lived))
    agent = FrozenContextAgent(policy=policy, layout=QueryFirst(ENV.spec), max_steps=6, context=context, greedy=True)
    obs, state = jnp.array([1.0, 2.0]), agent.init(jax.random.key(0))
    before = agent.logits(state, obs)
    for _ in range(7):
        state = agent.update(state, jax.tree.map(lambda field: field[0, 9], lived))
    np.testing.assert_array_equal(agent.logits(state, obs), before)
    assert int(agent.act(jax.random.key(0), state, obs)) == int(jnp.argmax(before))


def test_offline_returns_are_those_of_one_episode(policy):
    tasks = TaskSet.of(ENV, GOALS)
    contexts = jax.tree.map(lambda field: field[:, :6], in_turn(stream(), 3).history)
    agent = FrozenContextAgent(policy=policy, layout=QueryFirst(ENV.spec), max_steps=6, greedy=True)
    returns = offline_returns(ENV, tasks, agent, contexts, seed=0)
    assert returns.shape == (3,)
    assert np.all((returns >= 0) & (returns <= 6))
    assert agents["frozen-context"] is FrozenContextAgent


def test_labels_are_what_a_teacher_would_do_on_a_history_that_another_made():
    """As a host loop asks it: its own state, fed the first t transitions of uniform play."""
    env = GaussianBandit(num_arms=3, horizon=6)
    teacher, player = agents["ucb"].for_env(env), agents["uniform"].for_env(env)
    settings = {"num_queries": 7, "source": player, "elsewhere": 0.0, "labels": teacher}
    made = RolloutContexts(env, None, 6, seed=0, **settings).fetch(np.arange(4))
    assert made.label.shape == (4, 7)
    for row in range(4):
        state, expected = teacher.init(jax.random.key(0)), []
        for t in range(7):
            expected.append(int(teacher.act_greedy(jax.random.key(1), state, made.query[row, t])))
            if t < 6:
                state = teacher.update(state, jax.tree.map(lambda field, at=(row, t): field[at], made.history))
        assert made.label[row].tolist() == expected
    with pytest.raises(InputError, match=r"elsewhere: got 0\.5, allowed: 0 with labels of an agent"):
        RolloutContexts(env, None, 6, seed=0, **{**settings, "elsewhere": 0.5})
