"""Point-Robot's optimum against searches that know nothing of it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.tasks import TaskSet
from icrl.envs.point_robot import PointRobot, PointRobotState

H = 4
ENV = PointRobot(horizon=H)


def cost(start, goal, moves):
    """Sum of distances [n] behind each of the moves [n, T, 2] in [-1, 1]^2, in float64."""
    places = start + np.cumsum(0.1 * moves, axis=1)
    return np.linalg.norm(places - goal, axis=-1).sum(-1)


def state(position, time=0):
    return PointRobotState(jnp.asarray(position, jnp.float32), jnp.int32(time))


GOALS = [(0.83, 0.11), (0.21, -0.21), (0.05, 0.33), (-0.02, 0.01), (-1.0, 0.6)]


@pytest.mark.parametrize("goal", GOALS)
def test_no_sequence_of_moves_on_a_fine_grid_is_better(goal):
    """Every pair of moves with 21 values along each axis, followed as well as can be by every second such pair."""
    start, task = np.array([0.03, -0.04]), ENV.default_params.replace(goal=jnp.asarray(goal, jnp.float32))
    values = np.linspace(-1, 1, 21)
    single = np.array(list(itertools.product(values, values)))  # [441, 2]
    two = np.concatenate([np.repeat(single, 441, 0)[:, None], np.tile(single, (441, 1))[:, None]], axis=1)
    best_of_two = cost(start, np.array(goal), two).min()
    played, position = 0.0, state(start)
    for _ in range(2):
        action = ENV.optimal_action(task, position)
        _, position, reward, _, _ = ENV.step_env(jax.random.key(0), position, action, task)
        played -= float(reward)
    assert played <= best_of_two + 1e-5
    assert played >= best_of_two - 2 * 0.1 * 0.05 * 2**0.5 * 2  # what a grid of .1 can miss of each move


def test_it_beats_random_search_and_the_straight_line():
    """30 000 sequences of four moves around three rules, in each of 6 tasks."""
    rng = np.random.default_rng(0)
    tasks = TaskSet.draw(ENV, 0, "search", 6).params
    for i in range(6):
        task = jax.tree.map(lambda leaf, i=i: leaf[i], tasks)
        start, goal = rng.uniform(-0.1, 0.1, 2), np.asarray(task.goal, np.float64)
        optimum = -float(ENV._value(jnp.abs(task.goal - jnp.asarray(start, jnp.float32)), jnp.int32(H)))
        straight = (goal - start) / max(np.abs(goal - start).max(), 0.1)
        around = [np.zeros((H, 2)), np.tile(straight, (H, 1)), np.tile(np.clip((goal - start) / 0.1, -1, 1), (H, 1))]
        for mean in around:
            tried = np.clip(mean + rng.normal(0, 0.5, (10_000, H, 2)), -1, 1)
            assert cost(start, goal, tried).min() >= optimum - 1e-5
        assert cost(start, goal, np.tile(straight, (1, H, 1)))[0] >= optimum - 1e-5
    far = ENV.default_params.replace(goal=jnp.array([0.9, 0.3], jnp.float32))
    line = cost(np.zeros(2), np.array([0.9, 0.3]), np.tile([1.0, 1 / 3], (1, H, 1)))[0]
    assert line > -float(ENV._value(jnp.abs(far.goal), jnp.int32(H))) + 0.01  # the straight line is not optimal


def test_regret_is_what_the_action_costs():
    """Of 500 actions, against the return of optimal play behind each, in float64."""
    rng, goal, position = np.random.default_rng(1), np.array([0.44, -0.31]), np.array([0.06, 0.02])
    task = ENV.default_params.replace(goal=jnp.asarray(goal, jnp.float32))

    def rest(place, left):
        gaps = np.abs(goal - place) - 0.1 * np.arange(1, left + 1)[:, None]
        return np.linalg.norm(np.maximum(gaps, 0), axis=-1).sum()

    actions = rng.uniform(-1, 1, (500, 2))
    found = jax.vmap(ENV.regret, in_axes=(None, None, 0))(task, state(position, 1), jnp.asarray(actions, jnp.float32))
    moved = position + 0.1 * actions
    wanted = [np.linalg.norm(goal - place) + rest(place, H - 2) - rest(position, H - 1) for place in moved]
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_optimal_return_is_the_mean_over_starts():
    """100 000 starts in float64 for each goal: five standard errors are about .005."""
    env, rng = PointRobot(), np.random.default_rng(2)
    starts = rng.uniform(-0.1, 0.1, (100_000, 2))
    for goal in GOALS:
        task = env.default_params.replace(goal=jnp.asarray(goal, jnp.float32))
        total = np.zeros(len(starts))
        for k in range(1, 21):
            total -= np.linalg.norm(np.maximum(np.abs(np.array(goal) - starts) - 0.1 * k, 0), axis=-1)
        assert abs(float(env.optimal_return(task)) - total.mean()) <= 5 * total.std() / 100_000**0.5 + 2e-5
    tasks = TaskSet.draw(env, 0, "anchor", 20_000).params
    assert float(jax.jit(jax.vmap(env.optimal_return))(tasks).mean()) == pytest.approx(-2.398, abs=2e-3)


def test_a_goal_outside_of_the_square_is_refused():
    with pytest.raises(InputError, match=r"^task\.goal: got \[1\.5, 0\.0\], allowed: \(x, y\) in \[-1, 1\]\^2"):
        ENV.validate_task(ENV.default_params.replace(goal=jnp.array([1.5, 0.0])))
