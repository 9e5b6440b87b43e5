"""Ends of episodes before H steps: agents that think in episodes follow the flags, on the host and in the one loop."""

import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.agents._planner import Counts
from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.core.types import EnvSpec
from icrl.envs._ending import EndingMDP
from icrl.envs.corridor import Corridor
from icrl.envs.dark_room import DarkRoom
from icrl.envs.frozen_lake import FrozenLake
from icrl.envs.river_swim import RiverSwim
from icrl.evaluation.online import Trial, episode_returns
from icrl.gym.agents import HostAgent


class Fork(EndingMDP):
    """Four states, H = 6. In the first, action 0 ends the episode for .1, action 1 leads to 1 in three steps."""

    def __init__(self):
        super().__init__(num_states=4, num_actions=2, horizon=6, noise_std=0.0)

    def sample_task(self, key):
        del key
        move = np.zeros((4, 2, 4), np.float32)
        move[[0, 3], 0, 3] = move[[0, 1, 2, 3], 1, [1, 2, 3, 3]] = move[[1, 2], 0, [2, 3]] = 1.0
        reward = np.zeros((4, 2), np.float32)
        reward[0, 0], reward[2] = 0.1, 1.0
        return self.task_of(jnp.asarray(move), jnp.asarray(reward))


@functools.partial(jax.jit, static_argnames=("env", "steps"))
def rollouts(keys, params, agent, env, steps):
    return jax.vmap(lambda key, task: interact(key, env, task, agent, steps, key))(keys, params)


def first_returns(env, tasks, agent, num_episodes):
    """Returns [N, E] of the first episodes."""
    return Trial(env, tasks, num_episodes * env.spec.max_steps_in_episode, 0).returns(agent, label="")


def returns_in(env, agent, rolls, num_episodes):
    """Returns [N, E] in N rollouts of the environment's fixed task."""
    task = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (rolls, *jnp.shape(leaf))), env.sample_task(key_for(0, "t"))
    )
    return first_returns(env, TaskSet(task, np.arange(rolls, dtype=np.uint32)), agent, num_episodes)


def host_rollout(env, agent, spec, num_episodes, seed=0, options=None):
    """README's loop; (observations, actions, rewards) of all steps and the returns of the episodes."""
    player = HostAgent(agent, spec)
    player.reset(seed=seed)
    obs, _ = env.reset(seed=seed, options=options)
    steps, returns = [], [0.0]
    while len(returns) <= num_episodes:
        action = player.act(obs)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        player.observe(obs, action, reward, next_obs, terminated, truncated)
        steps.append((float(obs[0]), action, reward, terminated, truncated))
        returns[-1] += reward
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()
            returns.append(0.0)
    return np.array(steps), np.array(returns[:-1]), player


SMALL_BONUS = {"ucb-vi-ch": {"bonus_scale": 0.0005}, "ucb-vi-bf": {"bonus_scale": 0.001}}


# -- terminations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ucb-vi", "psrl", "ucrl2", "ucb-h", *(pytest.param(name, marks=pytest.mark.nightly) for name in
    ("opsrl", *SMALL_BONUS))],
)  # fmt: skip
def test_a_small_sure_end_is_not_preferred_to_a_large_later_one(name):
    """1 in the last 50 of 200 episodes; .08 to .19 where ends were not followed (measured 2026-11-27)."""
    env = Fork()
    late = returns_in(env, agents[name].for_env(env, **SMALL_BONUS.get(name, {})), 8, 200)[:, -50:]
    print(name, late.mean(1))
    assert late.mean() >= (0.95 if name in ("psrl", "opsrl") else 0.99)


def test_a_plan_knows_what_a_lake_is_worth():
    """In a map of four cells with one hole: V* at the start, and nothing behind the hole."""
    env = FrozenLake(size=2, horizon=6)
    task = env.task_where(jnp.array([False, True, False, False]))
    agent = agents["ucb-vi"].for_env(env)
    lived = jax.jit(lambda key: interact(key, env, task, agent, 900))(key_for(0, "lake"))
    counts, q = lived.agent_state.counts, np.asarray(lived.agent_state.q)
    assert int(counts.tries.sum()) == 900
    assert int(counts.ends.sum()) == int(lived.history.terminated.sum()) > 100
    np.testing.assert_allclose(q[0, 0].max(), env.optimal_return(task), atol=0.1)
    assert q[0, 0, 2] < 0.5  # right, into the hole


def test_the_posterior_of_an_end_is_that_of_one_outcome_more():
    """Mean and variance of a Dirichlet's component: prior weight .5 on each of 3 states and the end, 4 ends of 10."""
    spec = EnvSpec("made", 1, (1,), 0.0, 2.0, 5, (3,), ends_early=True)
    agent = agents["psrl"](spec, concentration=0.5)
    counts = Counts(jnp.array([[[6, 0, 0]]] * 3, jnp.int32), jnp.zeros((3, 1)), jnp.full((3, 1), 4, jnp.int32))
    draws = jax.vmap(lambda key: agent.draw_model(key, counts)[0])(jax.random.split(key_for(0, "end"), 4000))
    ends, first = 1.0 - np.asarray(draws[:, 0, 0].sum(-1)), np.asarray(draws[:, 0, 0, 0])
    for drawn, a in ((ends, 4.5), (first, 6.5)):
        mean = a / 12
        assert abs(drawn.mean() - mean) <= 4.3 * np.sqrt(mean * (1 - mean) / 13 / 4000)
        assert drawn.var() == pytest.approx(mean * (1 - mean) / 13, rel=0.15)
    fixed = agents["psrl"](EnvSpec("made", 1, (1,), 0.0, 2.0, 5, (3,)), concentration=0.5)
    never = counts._replace(ends=jnp.zeros((3, 1), jnp.int32))
    rows = jax.vmap(lambda key: fixed.draw_model(key, never)[0])(jax.random.split(key_for(0, "end"), 10))
    np.testing.assert_allclose(rows.sum(-1), 1.0, atol=1e-6)


def test_the_optimum_takes_the_shortest_way():
    """Six steps in each of 50 maps, as every map has a way right and down; in the corridor five."""
    for env, shortest in ((FrozenLake(), 6), (Corridor(length=5), 5)):
        tasks, oracle = TaskSet.draw(env, 0, "maps", 50), agents["oracle"].for_env(env)
        lived = rollouts(keys_for(key_for(0, "maps"), tasks.ids), tasks.params, oracle, env, 60)
        assert np.all(np.asarray(lived.history.terminated).sum(1) == 60 // shortest)
        assert np.all(first_returns(env, tasks, oracle, 3) == 1.0)


@pytest.mark.parametrize("slippery", [False, True])
def test_a_lake_has_the_odds_of_its_ice(slippery):
    """Each cell's four moves against their own arithmetic; no map is without a way, some have many holes."""
    env = FrozenLake(size=3, slippery=slippery, hole_prob=0.9)
    holes = jnp.array([0, 0, 0, 0, 1, 0, 0, 0, 0]) > 0
    table = np.asarray(env.task_where(holes).transition)
    cells = {(0, 0): 0, (1, 0): 3, (0, 1): 1}
    wanted = {
        0: [(0, 0)] * 2 + [(1, 0)],
        1: [(0, 0), (1, 0), (0, 1)],
        2: [(1, 0), (0, 1), (0, 0)],
        3: [(0, 1), (0, 0), (0, 0)],
    }
    straight = {0: (0, 0), 1: (1, 0), 2: (0, 1), 3: (0, 0)}
    for action in range(4):
        row = np.zeros(9)
        for cell in wanted[action] if slippery else [straight[action]] * 3:
            row[cells[cell]] += 1 / 3
        np.testing.assert_allclose(table[0, action], row, atol=1e-6)
    assert np.array_equal(table[4], np.eye(9)[[4] * 4])
    drawn = TaskSet.draw(env, 0, "lakes", 200).params
    assert np.all(jax.vmap(env.optimal_return)(drawn) > 0)
    assert len(np.unique(np.asarray(drawn.reward).sum((1, 2)))) > 1


def test_returns_are_of_the_first_episodes():
    over = np.array([[0, 1, 0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 1, 0, 0]], bool)
    reward = np.arange(16.0).reshape(2, 8)
    assert episode_returns(reward, 2, over).tolist() == [[1, 9], [8, 9]]
    assert episode_returns(reward, 2).tolist() == [[6, 22], [38, 54]]


# -- time limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, at_least", [("ucb-vi", 1.60 - 0.21), ("psrl", 1.57 - 0.24)])
def test_a_shorter_time_limit_is_followed(name, at_least):
    """Agents made for H = 20 in a river cut at 15, episodes 51 to 100; 1.10 and 1.13 where it was not followed.

    Told H = 15 they earn 1.60 +- .07 and 1.57 +- .08 (measured 2026-11-27).
    """
    cut = RiverSwim(horizon=15)
    late = returns_in(cut, agents[name].for_env(RiverSwim()), 24, 100)[:, 50:]
    error = late.mean(1).std(ddof=1) / np.sqrt(len(late))
    print(name, late.mean(), error)
    assert late.mean() >= at_least


@pytest.mark.nightly
@pytest.mark.parametrize("name, expected, error", [("ucb-vi", 1.60, 0.07), ("psrl", 1.57, 0.08)])
def test_a_shorter_time_limit_is_followed_on_the_host(name, expected, error):
    """gymnasium's own ``TimeLimit``; within three standard errors of what agents earn that are told of it."""
    env = gymnasium.make("icrl:icrl/RiverSwim-v0", max_episode_steps=15)
    agent = agents[name].for_env(RiverSwim())
    late = np.array([host_rollout(env, agent, RiverSwim().spec, 100, seed)[1][50:].mean() for seed in range(16)])
    own = late.std(ddof=1) / np.sqrt(len(late))
    print(name, late.mean(), own)
    assert abs(late.mean() - expected) <= 3 * np.hypot(own, error)


@pytest.mark.parametrize("memory", ["steps", "all", "last"])
def test_the_posterior_over_rooms_follows_a_time_limit(memory):
    """Made for H = 20, in rooms cut at 15: the rollouts of an agent that was told, and some task is always possible."""
    cut, told, not_told = DarkRoom(horizon=15), *(
        agents["posterior-task"].for_env(DarkRoom(horizon=h), memory=memory) for h in (15, 20)
    )  # fmt: skip
    tasks = TaskSet.draw(cut, 0, "cut", 12)
    keys = keys_for(key_for(0, "cut"), tasks.ids)
    here, there = (rollouts(keys, tasks.params, agent, cut, 40 * 15) for agent in (not_told, told))
    assert np.array_equal(here.history.action, there.history.action)
    assert np.all(np.asarray(here.agent_state.known).any(-1))
    truth = np.asarray(tasks.params.goal) @ [9, 1]
    assert np.all(np.asarray(here.agent_state.known)[np.arange(12), truth])


def test_a_posterior_that_refutes_every_task_begins_again():
    """A reward that no room pays: all tasks are possible afterwards."""
    env = DarkRoom(size=3)
    agent = agents["posterior-task"].for_env(env, memory="all")
    lived = interact(key_for(0, "room"), env, env.task(jnp.int32(0)), agent, 30)
    assert 0 < int(lived.agent_state.known.sum()) < 9
    last = jax.tree.map(lambda leaf: leaf[-1], lived.history)
    state = agent.update(lived.agent_state, last._replace(reward=jnp.float32(0.5)))
    assert bool(state.known.all() & state.recent.all())


def test_the_regret_of_a_step_is_that_of_the_state_it_was_taken_in():
    """Of the fork: its first state is worth 1, and .1 by action 0; nothing is lost elsewhere."""
    env = Fork()
    task = env.sample_task(key_for(0, "fork"))
    lived = interact(key_for(0, "regret"), env, task, agents["uniform"].for_env(env), 24)
    lost = np.asarray((lived.history.obs[:, 0] == 0) & (lived.history.action == 0))
    assert lost.sum() > 3 and (lived.history.obs[:, 0] > 0).sum() > 3
    np.testing.assert_allclose(lived.curves.regret, np.where(lost, 0.9, 0.0), atol=1e-6)


# -- the host ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, env", [("psrl", FrozenLake(horizon=7)), ("ucb-h", Corridor(length=3, horizon=5))])
def test_the_host_loop_and_interact_agree(name, env):
    """Nothing is drawn in these worlds: with the same key of the agent all steps are the same, and both ends occur."""
    task, agent = env.sample_task(key_for(3, "task")), agents[name].for_env(env)
    setting = {"horizon": env.horizon} | ({"length": env.length} if isinstance(env, Corridor) else {})
    world = gymnasium.make(f"icrl:icrl/{env.name}-v0", **setting)
    steps, _, player = host_rollout(world, agent, env.spec, 60, options={"task": task})
    key = keys_for(key_for(0, "host-agent"), jnp.arange(1, dtype=jnp.uint32))[0]
    lived = jax.jit(lambda: interact(key_for(0, "env"), env, task, agent, len(steps), key))()
    history = lived.history
    fields = history.obs[:, 0], history.action, history.reward, history.terminated, history.truncated
    np.testing.assert_array_equal(steps, np.stack([np.asarray(field, float) for field in fields], 1))
    assert steps[:, 3].sum() > 5 and (steps[:, 4] > steps[:, 3]).sum() > 5
    kept = player.predict(np.zeros(1, np.float32))[1].agent_state
    np.testing.assert_allclose(kept.q, lived.agent_state.q, rtol=1e-5, atol=1e-5)
