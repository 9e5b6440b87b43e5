"""Aliased rooms: the published room, its walks, and optima found by brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.registry import environments
from icrl.envs.aliased_room import FAR, MOVES, WALL, AliasedRoom

LEFT, RIGHT, UP, DOWN = range(4)
WALLED = [[0, 1, WALL], [1, WALL, 0], [0, 0, 1]]


def walled(goal, **settings):
    env = AliasedRoom(rows=3, columns=3, num_symbols=2, colouring="fresh", horizon=7, **settings)
    return env, env.task_of(jnp.array(WALLED), goal)


def behind(symbols, cell, action, torus):
    """The rule of the released walks, cell by cell: against a wall or the edge one stays."""
    rows, columns = len(symbols), len(symbols[0])
    row, column = cell // columns + MOVES[action][0], cell % columns + MOVES[action][1]
    row, column = (row % rows, column % columns) if torus else (row, column)
    inside = 0 <= row < rows and 0 <= column < columns
    return row * columns + column if inside and symbols[row][column] != WALL else cell


def test_the_demo_room_is_the_published_one():
    task = AliasedRoom().default_params
    published = "12303111 11323231 11201210 02113002 33101030 21233320"
    assert " ".join("".join(map(str, row)) for row in np.asarray(task.symbols)) == published


@pytest.mark.parametrize("torus", [False, True])
@pytest.mark.parametrize("goal", [0, 6, 8])
def test_moves_and_optima_are_those_found_by_brute_force(goal, torus):
    env, task = walled(goal, torus=torus)
    successors = np.asarray(env.successors(task.symbols))
    free = [cell for cell in range(9) if WALLED[cell // 3][cell % 3] != WALL]
    assert all(successors[cell, a] == behind(WALLED, cell, a, torus) for cell in free for a in range(4))
    values = [np.zeros(9)]  # V* with so many steps to go
    regret = jax.jit(env.regret)
    state = env.reset(jax.random.key(0), task)[1]
    for left in range(1, env.horizon + 1):
        q = (successors == goal) + values[-1][successors]
        values.append(q.max(1))
        for cell in free:
            here = state.replace(position=jnp.int32(cell), time=jnp.int32(env.horizon - left))
            lost = [float(regret(task, here, jnp.int32(action))) for action in range(4)]
            np.testing.assert_array_equal(lost, q[cell].max() - q[cell])
            assert lost[int(env.optimal_action(task, here))] == 0
    assert float(env.optimal_return(task)) == pytest.approx(values[-1][free].mean())


def test_a_goal_behind_walls_is_never_reached_and_nothing_is_earned():
    env = AliasedRoom(rows=1, columns=3, num_symbols=2, colouring="fresh")
    task = env.task_of(jnp.array([[0, WALL, 1]]), 2)
    assert task.distance[jnp.array([0, 2])].tolist() == [FAR, 0]
    state = env.reset(jax.random.key(0), task)[1].replace(position=jnp.int32(0))
    assert float(env.regret(task, state, jnp.int32(RIGHT))) == 0


def test_episodes_begin_in_every_cell_without_a_wall_alike():
    env, task = walled(0)
    obs, states = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(jax.random.key(1), 7000), task)
    counts = np.bincount(states.position, minlength=9)
    assert (counts[[2, 4]] == 0).all()
    np.testing.assert_allclose(counts[[0, 1, 3, 5, 6, 7, 8]], 1000, atol=130)  # 4.4 standard deviations
    np.testing.assert_array_equal(obs[:, 0], np.array(WALLED).ravel()[states.position])


def test_fresh_rooms_differ_and_show_every_symbol_alike():
    env = AliasedRoom(rows=10, columns=12, num_symbols=3, colouring="fresh")
    rooms = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(2), 50)).symbols
    assert len(np.unique(np.asarray(rooms).reshape(50, -1), axis=0)) == 50
    np.testing.assert_allclose(np.bincount(np.asarray(rooms).ravel()), 2000, atol=160)  # 4.4 standard deviations


def test_bad_settings_and_tasks_are_refused_in_one_line():
    with pytest.raises(InputError, match=r"^rows, columns, num_symbols: got \(5, 8, 4\), allowed: \(6, 8, 4\)"):
        AliasedRoom(rows=5)
    with pytest.raises(InputError, match="colouring"):
        AliasedRoom(colouring="chess")
    env, task = walled(0)
    env.validate_task(task)
    for change, words in (
        ({"goal": jnp.int32(2)}, "task.goal: got 2, allowed: the number of a cell without a wall"),
        ({"symbols": jnp.full((3, 3), 2)}, "task.symbols"),
        ({"symbols": jnp.full((3, 3), WALL)}, "task.symbols"),
        ({"distance": task.distance + 1}, "task.distance"),
    ):
        with pytest.raises(InputError, match=words):
            env.validate_task(task.replace(**change))
    assert environments["AliasedRoom-v0"] is AliasedRoom
