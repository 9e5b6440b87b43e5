"""Cheetah-Vel and Walker-Param against MuJoCo's own physics, in C and float64, and the formulas of their rewards."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.contrib import _mjx
from icrl.contrib._mjx import RobotState, model_of
from icrl.contrib.cheetah_vel import TEST_VELOCITIES, CheetahVel
from icrl.contrib.walker_param import BASES, FIELDS, WalkerParam
from icrl.core.errors import InputError
from icrl.core.registry import environments
from icrl.core.tasks import TaskSet
from icrl.testing.environments import check_form

STARTS, STEPS = 3, 8


def compared(env, params):
    """(ours, theirs, obs, reward, action, x before) of steps from one state each, along rollouts of MuJoCo's in C.

    ``params`` is a stack of a task a start; theirs is (qpos, qvel). Rollouts begin in a pose that touches the floor.
    """
    import mujoco

    step, rng, rows = jax.jit(env.step_env), np.random.default_rng(0), []
    for i in range(STARTS):
        task, model = jax.tree.map(lambda leaf, i=i: leaf[i], params), model_of(env.FILE).__copy__()
        for name, field in FIELDS.items():
            getattr(model, field)[:] *= np.asarray(getattr(task, name, 1.0))
        data = mujoco.MjData(model)
        data.qpos[:] += rng.uniform(-0.1, 0.1, 9) - np.array([0, 0.1 * i, 0, 0, 0, 0, 0, 0, 0])
        data.qvel[:] = rng.normal(size=9)
        for t in range(STEPS):
            action = rng.uniform(-1.5, 1.5, 6).astype(np.float32)
            before = (data.qpos, data.qvel, data.qacc_warmstart)
            state = RobotState(jnp.int32(t), *(jnp.asarray(leaf, jnp.float32) for leaf in before))
            x, data.ctrl[:] = data.qpos[0], np.clip(action, -1, 1)
            obs, after, reward, terminated, _ = step(jax.random.key(t), state, action, task)
            mujoco.mj_step(model, data, env.FRAMES)
            assert not terminated and int(after.time) == t + 1
            rows.append((after, (data.qpos.copy(), data.qvel.copy()), obs, float(reward), np.clip(action, -1, 1), x))
    return rows


def test_tasks_need_no_mujoco():
    """Draws, shapes and ranges; no list has what cannot run without an extra."""
    assert environments["icrl.contrib.cheetah_vel:CheetahVel"] is CheetahVel
    assert environments["icrl.contrib.walker_param:WalkerParam"] is WalkerParam
    assert not {CheetahVel, WalkerParam} & {environments[name] for name in environments}
    goals = np.asarray(TaskSet.draw(CheetahVel(), 0, "draws", 4000).params.velocity)
    assert goals.min() >= 0 and goals.max() <= 3 and abs(goals.mean() - 1.5) < 4.3 * 3 / np.sqrt(12 * goals.size)
    tests = CheetahVel().test_tasks()
    assert np.asarray(tests.params.velocity) == pytest.approx(TEST_VELOCITIES)
    assert tests.ids.tolist() == [45, 46, 47, 48, 49]
    tasks = TaskSet.draw(WalkerParam(), 0, "draws", 1000).params
    for name, shape in {"mass": (8,), "inertia": (8, 3), "damping": (9,), "friction": (8, 3)}.items():
        exponents = np.log(np.asarray(getattr(tasks, name), np.float64)) / np.log(BASES[name])
        assert exponents.shape == (1000, *shape) and np.abs(exponents).max() <= 3 + 1e-5
        assert abs(exponents.mean()) < 4.3 * 6 / np.sqrt(12 * exponents.size)
        assert exponents.std() == pytest.approx(3 / np.sqrt(3), rel=0.03)
    with pytest.raises(InputError, match=r"mass: got .* allowed: numbers above 0"):
        WalkerParam().validate_task(WalkerParam().default_params.replace(mass=jnp.zeros(8)))
    assert CheetahVel().spec.obs_shape == (17,) and CheetahVel().spec.action_box.dim == 6


def test_without_mujoco_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    _mjx.model_of.cache_clear()
    with pytest.raises(InputError, match=r"half_cheetah.xml: needs MuJoCo and MJX .*; pip install 'icrl\[mjx\]'"):
        CheetahVel().reset(jax.random.key(0))


@pytest.fixture
def mujoco():
    found = pytest.importorskip("mujoco", reason="needs the extra mjx")
    pytest.importorskip("mujoco.mjx", reason="needs the extra mjx")
    return found


@pytest.mark.nightly  # 10 seconds of CPU, most of them compiling MJX
def test_cheetah_runs_as_in_mujoco(mujoco):
    env = CheetahVel()
    params = jax.tree.map(lambda leaf: leaf[:STARTS], env.test_tasks().params)
    for k, (after, (qpos, qvel), obs, reward, action, x) in enumerate(compared(env, params)):
        np.testing.assert_allclose(after.position, qpos, atol=1e-5)
        np.testing.assert_allclose(after.velocity, qvel, atol=5e-4)
        np.testing.assert_array_equal(obs, np.concatenate([after.position[1:], after.velocity]))
        expected = -abs((qpos[0] - x) / 0.05 - TEST_VELOCITIES[k // STEPS]) - 0.05 * np.sum(action**2)
        assert reward == pytest.approx(expected, abs=5e-4)


@pytest.mark.nightly
def test_what_diverges_returns_to_the_pose_of_the_file(mujoco):
    env = CheetahVel()
    _, state = env.reset(jax.random.key(0))
    state = dataclasses.replace(state, velocity=1e30 * state.velocity)
    obs, after, reward, *_ = env.step(jax.random.key(1), state, jnp.zeros(6), env.default_params)
    assert not np.any(obs) and not np.any(after.warm_start) and int(after.time) == 1 and np.isfinite(reward)


@pytest.mark.nightly
def test_it_has_the_form_of_an_environment(mujoco):
    check_form(CheetahVel(horizon=3))


@pytest.mark.nightly  # twice that: a step evaluates the physics four times, each written out
def test_walker_walks_as_in_mujoco(mujoco):
    """With other masses, inertias, damping and friction from each start, set in MuJoCo's own model."""
    env = WalkerParam()
    for after, (qpos, qvel), obs, reward, action, x in compared(env, TaskSet.draw(env, 0, "walk", STARTS).params):
        np.testing.assert_allclose(after.position, qpos, atol=1e-5)
        np.testing.assert_allclose(after.velocity, qvel, atol=5e-4)
        np.testing.assert_array_equal(obs[8:], np.clip(after.velocity, -10, 10))
        stands = 0.8 < qpos[1] < 2.0 and -1 < qpos[2] < 1
        expected = (qpos[0] - x) / 0.008 + 1 - 1e-3 * np.sum(action**2) - (not stands)
        assert reward == pytest.approx(expected, abs=2e-3)
