"""gymnax users' code on our environments, and gymnax's environments behind our bases.

MemoryChain-bsuite and GaussianBandit-misc leave their own observation spaces, MNISTBandit-bsuite downloads: not here.
"""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from siblings import KINDS, by_day

from icrl.agents.uniform import Uniform
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import environments
from icrl.core.tasks import TaskSet
from icrl.envs._gymnax_adapter import GymnaxEnvironment, GymnaxTask

ENV_IDS = [by_day(declared.name, day=declared.name in KINDS) for declared in environments.declared()]
THEIRS = ["CartPole-v1", "FrozenLake-misc", "Catch-bsuite", "Reacher-misc"]


@pytest.fixture(scope="module")
def gymnax():
    return pytest.importorskip("gymnax")


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_rollout_wrapper_of_gymnax_runs_on_ours_unchanged(gymnax, env_id):
    from gymnax.experimental.rollout import RolloutWrapper

    env = environments[env_id]()
    task = env.default_params.replace(max_steps_in_episode=5)
    keys = jax.random.split(jax.random.key(0), 3)
    obs, action, reward, next_obs, done, cum_return = RolloutWrapper(
        env=env, env_params=task, num_env_steps=7
    ).batch_rollout(keys, None)
    assert obs.shape == next_obs.shape == (3, 7, *env.spec.obs_shape) and obs.dtype == jnp.float32
    assert action.shape == (*reward.shape, *env.spec.action_shape) and reward.shape == (3, 7)
    if env.spec.action_box is None:
        assert bool(((action >= 0) & (action < env.num_actions)).all())
    else:
        assert bool((action == env.spec.action_box.clip(action)).all())
    in_first_episode = np.cumsum(done, 1) - done == 0  # the wrapper sums the first episode of a rollout
    np.testing.assert_allclose(cum_return[:, 0], (reward * in_first_episode).sum(1), rtol=1e-5)
    if "Bandit" in env_id:
        assert done.tolist() == [[False] * 4 + [True] + [False] * 2] * 3
    default = RolloutWrapper(env=env, num_env_steps=2)
    assert default.input_shape == env.spec.obs_shape
    assert default.batch_rollout(keys, None)[0].shape == (3, 2, *env.spec.obs_shape)


def play(step, reset, params, actions):
    """(obs, reward, terminated, truncated, final observation) of each step [T], with auto-reset."""
    keys = jax.random.split(jax.random.key(1), len(actions))

    def one_step(state, given):
        key, action = given
        obs, state, reward, terminated, truncated, info = step(key, state, action, params)
        return state, (obs, reward, terminated, truncated, info["final_observation"])

    return jax.lax.scan(one_step, reset(jax.random.key(0), params)[1], (keys, actions))[1]


@pytest.mark.parametrize("env_id", THEIRS)
def test_adapter_plays_the_very_same_game(gymnax, env_id):
    theirs, params = gymnax.make(env_id)
    ours = GymnaxEnvironment.make(env_id)
    task = ours.sample_task(jax.random.key(0))
    ours.validate_task(task)
    actions = jax.random.randint(jax.random.key(2), (60,), 0, ours.spec.num_actions or 1)
    if box := ours.spec.action_box:
        actions = jax.vmap(box.draw)(jax.random.split(jax.random.key(2), ours.spec.max_steps_in_episode + 9))
    mine, other = play(ours.step, ours.reset, task, actions), play(theirs.step, theirs.reset, params, actions)
    for found, wanted in zip(mine, other, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)  # their constants are traced in ours
    assert mine[0].shape == (len(actions), *ours.spec.obs_shape) and mine[0].dtype == jnp.float32
    assert mine[2].dtype == mine[3].dtype == bool
    assert bool((mine[2] | mine[3]).any())  # the end of an episode was part of the comparison


def test_interact_runs_and_its_regret_says_that_nobody_knows(gymnax):
    env = GymnaxEnvironment.make("CartPole-v1")
    tasks = TaskSet.draw(env, 0, "test", 2).params
    keys = jax.random.split(jax.random.key(0), 2)

    @jax.jit
    @jax.vmap
    def run(key, task):
        return interact(key, env, task, Uniform.for_env(env), 50)  # for_env inside jit: the spec must stay concrete

    lives = run(keys, tasks)
    assert lives.history.obs.shape == (2, 50, 4)
    assert bool((lives.curves.reward == 1).all()) and bool(jnp.isnan(lives.curves.regret).all())
    assert bool(jnp.isnan(env.optimal_return(tasks)))
    with pytest.raises(NotImplementedError, match="optimal policy of CartPole-v1 is not known"):
        env.optimal_action(tasks, None)


def heavier_poles(key):
    import gymnax

    params = gymnax.make("CartPole-v1")[1]
    return params.replace(masspole=jax.random.uniform(key, minval=0.1, maxval=5.0))


def test_a_task_sampler_makes_a_family(gymnax):
    env = GymnaxEnvironment.make("CartPole-v1", task_sampler=heavier_poles)
    tasks = TaskSet.draw(env, 0, "test", 4)
    assert len(set(tasks.digests())) == 4
    _, state = env.reset(jax.random.key(0), row(tasks, 0))
    steps = [env.step(jax.random.key(1), state, jnp.int32(1), row(tasks, i))[0] for i in range(4)]
    assert len({tuple(step.tolist()) for step in steps}) == 4  # the parameters reach the physics


def row(tasks, i):
    return jax.tree.map(lambda leaf: leaf[i], tasks.params)


def test_what_does_not_fit_is_named(gymnax):
    with pytest.raises(InputError, match="did you mean CartPole-v1"):
        GymnaxEnvironment.make("CartPol-v1")
    with pytest.raises(InputError, match=r"^action box: dim: got 0, allowed: an integer"):
        GymnaxEnvironment.make("Reacher-misc", num_joints=0)
    env = GymnaxEnvironment.make("CartPole-v1")
    task = env.default_params
    with pytest.raises(InputError, match="task: got"):
        env.validate_task(task.inner)
    with pytest.raises(InputError, match=r"task\.inner: got 'NoneType', allowed: EnvParams"):
        env.validate_task(GymnaxTask())
    with pytest.raises(InputError, match=r"task\.gravity: got nan, allowed: finite"):
        env.validate_task(task.replace(inner=task.inner.replace(gravity=jnp.nan)))


def test_gymnax_is_not_imported_before_it_is_needed():
    code = (
        "import sys, icrl.gym.agents, icrl.core.registry as r; list(r.environments); assert 'gymnax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
