"""Offline scores: each choice is scored in the context, at the time and in the state in which it is made."""

import jax
import numpy as np
import pytest

from icrl.core.interact import interact, replay
from icrl.core.registry import agents, environments
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.envs.frozen_lake import FrozenLake
from icrl.evaluation.offline import offline_suboptimality, recorded_contexts


def scores(env, name, num_tasks, num_steps=200):
    """Suboptimality [N, T + 1] of an agent's greedy choices on contexts of uniform play; tasks, contexts, choices."""
    agent, tasks = agents[name].for_env(env), TaskSet.draw(env, 0, "offline scores", num_tasks)
    recorded = recorded_contexts(env, tasks, agents["uniform"].for_env(env), num_steps, seed=0)
    found = offline_suboptimality(env, tasks, agent, recorded, seed=0)
    keys = keys_for(key_for(0, "offline/agent"), tasks.ids)
    chosen = jax.jit(jax.vmap(lambda key, one, last: replay(key, agent, one, last)[0]))
    return found, tasks, recorded, np.asarray(chosen(keys, recorded.contexts.history, recorded.next_obs))


def observations(recorded):
    """[N, T + 1, *O], those that the choices were made at."""
    return np.append(recorded.contexts.history.obs, recorded.next_obs[:, None], axis=1)


def test_linear_scores_are_those_of_the_features_shown():
    """.004 after 150 to 199 transitions; in the context of a fresh episode they were .630 (measured 2026-11-27)."""
    env = environments["ContextualLinearBandit-v0"]()
    found, tasks, recorded, chosen = scores(env, "linucb", 100)
    shown = observations(recorded).reshape(*chosen.shape, env.num_actions, -1)
    means = np.einsum("ntkd,nd->ntk", shown, np.asarray(tasks.params.theta))
    mine = means.max(-1) - np.take_along_axis(means, chosen[..., None], -1)[..., 0]
    np.testing.assert_allclose(found, mine, atol=1e-5)
    print(found[:, 150:200].mean())
    assert found[:, 150:200].mean() <= 0.005


def test_classification_scores_are_those_of_the_rows_shown():
    """Right or wrong, by the labels; the classifier is plain ridge regression on the rewards of each class."""
    env = environments["ClassificationBandit-v0"]()
    found, tasks, recorded, chosen = scores(env, "linucb-disjoint", 24)
    features, labels, history = (
        *map(np.asarray, (tasks.params.features, tasks.params.labels)),
        recorded.contexts.history,
    )
    seen = observations(recorded)
    rows = np.array([(features[n] @ seen[n].T).argmax(0) for n in range(24)])  # of length 1: its own row is the nearest
    right = np.take_along_axis(labels, rows, 1)
    np.testing.assert_array_equal(found, chosen != right)
    x, action, reward = (np.asarray(field, np.float64) for field in (history.obs, history.action, history.reward))
    late = []
    for t in (160, 180, 200):
        for n in range(24):
            past = [action[n, :t] == k for k in range(env.num_actions)]
            theta = [
                np.linalg.solve(np.eye(8) + x[n, :t][p].T @ x[n, :t][p], x[n, :t][p].T @ reward[n, :t][p]) for p in past
            ]
            late.append(np.argmax(theta @ seen[n, t].astype(float)) != right[n, t])
    mean, twin = found[:, 150:200].mean(), np.mean(late)
    print(mean, found[:, 150:200].mean(1).std() / 24**0.5, twin)
    assert abs(mean - twin) <= 0.06 and mean <= 0.1


def test_drifting_scores_are_those_of_their_time():
    env = environments["SwitchingBandit-v0"](horizon=150)
    found, tasks, _, chosen = scores(env, "discounted-ucb", 20)
    means = np.asarray(tasks.params.means)[:, np.arange(201) % 150]
    mine = means.max(-1) - np.take_along_axis(means, chosen[..., None], -1)[..., 0]
    np.testing.assert_allclose(found, mine, atol=1e-6)


def test_scores_of_worlds_with_states_are_those_of_their_steps():
    """Of the states and steps of the recorded rollout, across ends of both kinds."""
    env = FrozenLake(horizon=8)
    found, tasks, recorded, chosen = scores(env, "q-learning", 20, 50)
    history = recorded.contexts.history
    over = np.asarray(history.terminated | history.truncated)
    assert history.terminated.sum() > 10 < history.truncated.sum()
    states, q = observations(recorded)[..., 0].astype(int), np.asarray(tasks.params.q)
    for n in range(20):
        time = 0
        for t in range(51):
            row = q[n, time, states[n, t]]
            assert found[n, t] == pytest.approx(row.max() - row[chosen[n, t]], abs=1e-6)
            time = 0 if t < 50 and over[n, t] else time + 1


def test_a_rollout_says_what_comes_next():
    """The first T steps of a longer rollout, and the state that its step T + 1 acts upon."""
    env = FrozenLake(horizon=4)
    task, agent = env.sample_task(key_for(0, "task")), agents["uniform"].for_env(env)
    longer = interact(key_for(0, "next"), env, task, agent, 41)
    for steps in (12, 40):
        short = interact(key_for(0, "next"), env, task, agent, steps)
        wanted = jax.tree.map(lambda leaf, at=steps: leaf[at], (longer.history.obs, longer.env_states))
        assert all(map(np.array_equal, jax.tree.leaves((short.next_obs, short.next_state)), jax.tree.leaves(wanted)))
