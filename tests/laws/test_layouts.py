"""Laws of every registered layout: what an agent reads step by step is what training reads at once."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from icrl.agents import in_context
from icrl.agents.in_context import InContextAgent
from icrl.agents.rolling_context import RollingContextAgent
from icrl.agents.sorted_context import SortedContextAgent
from icrl.agents.streaming_context import StreamingContextAgent
from icrl.core.boxes import Box
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents, layouts, models
from icrl.core.types import History, Transition
from icrl.envs.dark_room import DarkRoom
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.envs.point_robot import PointRobot
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.models.transformer import Transformer, TransformerConfig

STEPS, WINDOW = 30, 12
ENVS = {
    "grid": DarkRoom(size=4, horizon=6),
    "real": GaussianBandit(num_arms=3, horizon=10),
    "box": PointRobot(horizon=6),
}


KEY = jax.random.key(0)
DAY = ("pairs", "steps")
CASES = [(layout, env) for layout in layouts for env in ENVS]
AS_CASE = {"ids": str, "indirect": True}  # of a parameter that the fixture takes


def by_day(case):
    """A box of actions is tried by day in the two layouts that differ in what they tell of the past."""
    return pytest.param(case, id=str(case), marks=[pytest.mark.nightly] * (case[1] == "box" and case[0] not in DAY))


@pytest.fixture(params=map(by_day, CASES))
def case(request):
    name, kind = request.param
    env = ENVS[kind]
    if name == "query-first" and kind != "real":
        pytest.skip("a prompt stands for all decisions, so the query must not change")
    layout = layouts[name](env.spec)
    config = TransformerConfig(width=16, num_layers=2, num_heads=2, init_std=0.3)
    backbone = Transformer(config, layout.num_tokens(STEPS), nnx.Rngs(0))
    policy = Policy.split(TokenPolicy(layout.token_dim, layout.num_outputs, backbone, 0.3, nnx.Rngs(1)))
    history = interact(
        jax.random.key(1), env, env.sample_task(jax.random.key(0)), agents["uniform"].for_env(env), STEPS
    ).history
    return env, layout, policy, history


def query(env):
    return env.reset(jax.random.key(0), env.sample_task(jax.random.key(0)))[0]


@partial(jax.jit, static_argnames="layout")
def all_at_once(layout, policy, history: History):
    """Logits [T, K] in front of each step of ``history``, read in one go."""
    tokens = layout.sequence(history, jnp.append(history.obs, history.next_obs[-1:], 0))
    return policy(tokens)[0][layout.decisions(history.action.shape[0])][:-1]


@jax.jit
def one_by_one(agent, history: History):
    """Logits [T, K] in front of each step, as an agent meets them; every second action is its own decision."""
    return lived(agent, history)[1]


def lived(agent, history):
    """The agent's last state, and those logits."""

    def step(state, told):
        transition, is_own = told
        logits, decided = agent.logits(state, transition.obs), agent.decide(KEY, state, transition.obs)[1]
        mine, shown = (agent.update(before, transition) for before in (decided, state))
        return jax.tree.map(lambda one, other: jnp.where(is_own, one, other), mine, shown), logits

    return jax.lax.scan(step, agent.init(KEY), (history, jnp.arange(history.action.shape[0]) % 2 == 0))


def test_the_tokens_of_a_step_worked_out_by_hand():
    """Of a room of two by two cells: coordinates and actions one-hot, rewards as they are, marks in front or behind."""
    here, there, left, no = [1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0, 0], [0] * 5
    obs, after = jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])
    past = Transition(obs, jnp.int32(2), jnp.float32(0.5), after, jnp.bool_(False), jnp.bool_(True))
    expected = {  # the token in front of a step at ``after``, and those behind the step that led there
        "query-first": ([], [[*here, *left, *there, 0.5]]),
        "pairs": ([[1, *there, *no, *[0] * 5]], [[0, *here, *left, *there, 0.5]]),
        "interleaved": ([[1, *there, *no, 0]], [[0, *[0] * 4, *left, 0], [0, *[0] * 4, *no, 0.5]]),
        "steps": ([[*there, *left, 0.5, 1, 0]], []),
        "outcomes": (
            [[*there, *no, 0, *here, *left, *there, 0.5]],
            [[*here, *left, *[0] * 15]],
        ),
    }
    assert expected.keys() == set(layouts)
    for name, (before, behind) in expected.items():
        layout = layouts[name](DarkRoom(size=2).spec)
        for found, tokens in ((layout.before(after, past), before), (layout.after(past), behind)):
            np.testing.assert_array_equal(found, np.reshape(tokens, (len(tokens), layout.token_dim)), name)


def test_an_action_in_a_box_is_told_as_what_the_environment_did():
    """Clipped and scaled to [-1, 1]; none at all where a context begins."""
    spec = dataclasses.replace(PointRobot().spec, action_box=Box((0.0, -2.0), (4.0, 2.0)))
    place, none = jnp.array([0.5, -0.5]), jnp.bool_(False)
    past = Transition(place, jnp.array([5.0, -1.0]), jnp.float32(0.25), place, none, none)
    steps = layouts["steps"](spec)
    np.testing.assert_array_equal(steps.before(place, past), [[0.5, -0.5, 1.0, -0.5, 0.25, 0, 0]])
    np.testing.assert_array_equal(steps.before(place, steps.no_past()), [[0.5, -0.5, 0, 0, 0, 1, 1]])
    told = layouts["pairs"](spec).after(past)
    np.testing.assert_array_equal(told, [[0, 0.5, -0.5, 1.0, -0.5, 0.5, -0.5, 0.25]])


def test_sequence_has_the_promised_length_and_decisions_stand_before_their_actions(case):
    _, layout, _, history = case
    queries = jnp.append(history.obs, history.next_obs[-1:], 0)
    tokens = layout.sequence(history, queries)
    assert tokens.shape == (layout.num_tokens(STEPS), layout.token_dim)
    action = (history.action + 1) % layout.num_actions if layout.num_actions else -history.action
    other = history._replace(action=action, reward=history.reward + 1.0)
    changed = np.flatnonzero(np.any(np.asarray(tokens != layout.sequence(other, queries)), axis=1))
    first = [changed[changed > d].min() for d in np.asarray(layout.decisions(STEPS))[:-1]]
    np.testing.assert_array_equal(first, np.asarray(layout.decisions(STEPS))[:-1] + 1)  # told right after, not before
    assert changed.min() == first[0]


def test_reading_step_by_step_is_reading_at_once(case):
    env, layout, policy, history = case
    agent = InContextAgent(policy=policy, query=query(env), layout=layout, max_steps=STEPS)
    np.testing.assert_allclose(one_by_one(agent, history), all_at_once(layout, policy, history), atol=2e-5)


@pytest.mark.parametrize("case", [("pairs", "box")], **AS_CASE)
def test_no_action_is_nothing_to_a_layout_that_tells_it_as_a_number(case, monkeypatch):
    """NaN stands for it where actions are numbers in a box."""
    env, layout, policy, history = case
    plain = type(layout).after
    told = lambda self, transition: plain(self, transition) + 0 * transition.action.sum()  # noqa: E731
    monkeypatch.setattr(type(layout), "after", told)
    agent = InContextAgent(policy=policy, query=query(env), layout=layout, max_steps=STEPS)
    assert np.isnan(layout.after(layout.no_past())).all()
    found = jax.jit(lambda history: lived(agent, history)[1])(history)  # traced anew
    np.testing.assert_allclose(found, all_at_once(layout, policy, history), atol=2e-5)


@pytest.mark.parametrize("case", [("interleaved", "grid")], **AS_CASE)
def test_a_layout_that_says_more_of_a_step_than_a_start_may_hide_is_read_at_once(case, monkeypatch):
    env, layout, policy, history = case
    agent = InContextAgent(policy=policy, query=query(env), layout=layout, max_steps=STEPS)
    late = jax.eval_shape(agent.init, KEY)
    monkeypatch.setattr(in_context, "HIDDEN", layout.num_after - 1)
    assert late.past is not None and jax.eval_shape(agent.init, KEY).past is None
    found = jax.jit(lambda history: lived(agent, history)[1])(history)  # traced anew
    np.testing.assert_allclose(found, all_at_once(layout, policy, history), atol=2e-5)


@pytest.mark.parametrize("forget", [5, *(pytest.param(n, marks=pytest.mark.nightly) for n in (1, WINDOW))])
def test_a_rolling_context_is_the_latest_transitions_read_afresh(case, forget):
    env, layout, policy, history = case
    agent = RollingContextAgent(policy=policy, query=query(env), layout=layout, max_steps=WINDOW, forget=forget)
    found = np.asarray(one_by_one(agent, history))
    fill = 0
    for t in range(STEPS):
        fill, now = (fill + 1 if fill + 1 < WINDOW else WINDOW - forget), fill
        rows = np.minimum(np.arange(t - now, t - now + WINDOW), STEPS - 1)  # what follows t is not seen by a decision
        expected = all_at_once(layout, policy, jax.tree.map(lambda field, rows=rows: field[rows], history))[now]
        np.testing.assert_allclose(found[t], expected, atol=2e-5, err_msg=f"step {t}, {now} in the context")


@pytest.mark.parametrize(
    "backbone",
    [{"attention_window": 7, "positions": "rotary"}, {"attention_window": 5, "positions": "none"}, "gru", "hybrid"],
    ids=str,
)
@pytest.mark.parametrize(
    "case", [CASES[0], ("steps", "real"), *(pytest.param(c, marks=pytest.mark.nightly) for c in CASES[1:])], **AS_CASE
)
def test_a_streaming_context_is_the_whole_life_read_at_once(case, backbone):
    """Three times longer than what its memory has room for."""
    env, layout, _, history = case
    if isinstance(backbone, dict):
        cls, config = Transformer, TransformerConfig(width=16, num_layers=2, num_heads=2, init_std=0.3, **backbone)
    else:
        cls = models[backbone]
        config = cls.Config(width=16, num_layers=2, **{"attention_window": 6} if backbone == "hybrid" else {})
    made = cls(config, layout.num_tokens(STEPS // 3), nnx.Rngs(0))
    policy = Policy.split(TokenPolicy(layout.token_dim, layout.num_outputs, made, 0.3, nnx.Rngs(1)))
    agent = StreamingContextAgent(policy=policy, query=query(env), layout=layout, max_steps=STEPS // 3)
    np.testing.assert_allclose(one_by_one(agent, history), all_at_once(layout, policy, history), atol=2e-5)
    both = jax.vmap(lambda h: one_by_one(agent, h))(jax.tree.map(lambda field: jnp.stack([field, field]), history))
    np.testing.assert_allclose(both[1], one_by_one(agent, history), atol=2e-5)


def test_a_model_whose_memory_ends_does_not_stream(case):
    env, layout, policy, _ = case
    config = TransformerConfig(width=8, num_layers=1, num_heads=1, attention_window=20, positions="rotary")
    backbone = Transformer(config, 20, nnx.Rngs(0))
    short = Policy.split(TokenPolicy(layout.token_dim, layout.num_outputs, backbone, 0.3, nnx.Rngs(1)))
    for each in (policy, short):  # absolute positions; a window as long as all that there is room for
        with pytest.raises(InputError, match="policy: got 'one whose memory ends', allowed: an endless model"):
            StreamingContextAgent(policy=each, query=query(env), layout=layout, max_steps=WINDOW)


EPISODE = 3  # steps, four of which fill the window


SORTED_BY_DAY = [("pairs", "grid"), ("steps", "box")]


@pytest.mark.parametrize(
    "case",
    SORTED_BY_DAY + [pytest.param(c, marks=pytest.mark.nightly) for c in CASES if c not in SORTED_BY_DAY],
    **AS_CASE,
)
def test_a_sorted_context_is_the_latest_episodes_by_return_and_then_the_one_under_way(case):
    env, layout, policy, history = case
    agent = SortedContextAgent(policy=policy, query=query(env), layout=layout, max_steps=WINDOW, episode_steps=EPISODE)
    reward = np.asarray(history.reward).round(1)  # so that returns of rooms and of bandits tie now and then
    history = history._replace(reward=jnp.asarray(reward))
    found = np.asarray(one_by_one(agent, history))
    returns = reward.reshape(-1, EPISODE).sum(1)
    for t in range(STEPS):
        number = t // EPISODE
        done = sorted(range(max(0, number - WINDOW // EPISODE + 1), number), key=lambda one: returns[one])
        rows = np.concatenate([np.arange(EPISODE) + EPISODE * one for one in (*done, number)])
        now = len(done) * EPISODE + t % EPISODE
        rows = np.pad(rows, (0, WINDOW - len(rows)))  # what follows t is not seen by a decision
        expected = all_at_once(layout, policy, jax.tree.map(lambda field, rows=rows: field[rows], history))[now]
        np.testing.assert_allclose(found[t], expected, atol=2e-5, err_msg=f"step {t}, {now} in the context")


def side_by_side(case, cls=RollingContextAgent, **settings):
    """A rolling agent, and a batch of two histories that are the same."""
    env, layout, policy, history = case
    settings = settings or {"forget": 5}
    agent = cls(policy=policy, query=query(env), layout=layout, max_steps=WINDOW, **settings)
    return agent, jax.tree.map(lambda field: jnp.stack([field, field]), history)


def test_many_tasks_side_by_side_forget_together(case):
    """The fill of their windows is one number under ``vmap``, or windows are read at every step."""
    agent, batch = side_by_side(case)
    fill = jax.vmap(lambda history: lived(agent, history)[0].fill, out_axes=None)(batch)  # refused where they are two
    assert fill.shape == ()


@pytest.mark.parametrize("case", CASES[:1], **AS_CASE)
def test_many_tasks_side_by_side_sort_together(case):
    """The branch stays one under ``vmap``."""
    agent, batch = side_by_side(case, SortedContextAgent, episode_steps=EPISODE)
    assert "cond[" in str(jax.make_jaxpr(jax.vmap(lambda history: one_by_one(agent, history)))(batch))


@pytest.mark.parametrize("case", CASES[:1] + [pytest.param(c, marks=pytest.mark.nightly) for c in CASES[1:]], **AS_CASE)
def test_many_tasks_side_by_side_are_each_alone(case):
    (agent, batch), history = side_by_side(case), case[-1]
    both = jax.vmap(lambda h: one_by_one(agent, h))(batch)
    np.testing.assert_allclose(both[1], one_by_one(agent, history), atol=2e-5)
