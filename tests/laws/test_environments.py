"""Laws that every registered environment obeys; a new file in icrl/envs is held to them at once.

Fixed seeds, so nothing flakes. Statistical gates are |z| <= 4.3 (2e-5 two-sided).
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from siblings import KINDS, by_day

from icrl.agents.uniform import Uniform
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents, environments
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.envs._bandit import Bandit

HORIZON = 6
GATE = 4.3


def make(name: str, **settings):
    """The environment with short episodes."""
    fields = {field.name for field in dataclasses.fields(environments[name])}
    short = {"horizon": HORIZON} if "horizon" in fields else {}
    return environments[name](**{**short, **settings})


@pytest.fixture(params=[by_day(name) for name in environments])
def env(request):
    return make(request.param)


@pytest.fixture(params=[by_day(name, day=name in KINDS) for name in environments])
def env_of_its_kind(request):
    return make(request.param)


# The optimum of random MDPs is planned anew in every task, which is slow; it has an oracle of its own.
@pytest.fixture(params=[by_day(name, day=name != "RandomMDP-v0") for name in environments])
def env_with_a_quick_optimum(request):
    return make(request.param)


@pytest.fixture
def bandit(env):
    if not isinstance(env, Bandit):
        pytest.skip("a law of bandits")
    return env


def close(found, wanted):
    """Same structure, dtypes and shapes; integers and booleans equal, floats within 1e-5."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        exact = not jnp.issubdtype(a.dtype, jnp.floating)
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=0 if exact else 1e-5)


def walk(env, num_steps, seed=3):
    """[(key, state before, action, outcome of step)] of a random life."""
    task = env.sample_task(key_for(seed, "task"))
    _, state = env.reset(key_for(seed, "reset"), task)
    actions = np.random.default_rng(seed).integers(env.num_actions, size=num_steps)
    rows = []
    for t, action in enumerate(actions):
        outcome = env.step(key_for(seed, "step", t), state, jnp.int32(action), task)
        rows.append((key_for(seed, "step", t), state, jnp.int32(action), outcome))
        state = outcome[1]
    return task, rows


# -- form -------------------------------------------------------------------------------------------------------------


def test_step_has_gymnax_form(env):
    task, rows = walk(env, 3)
    _, state = env.reset(key_for(3, "reset"), task)
    for _, _, _, outcome in rows:
        obs, after, reward, terminated, truncated, info = outcome
        assert (obs.shape, obs.dtype) == (env.spec.obs_shape, jnp.float32)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert (reward.shape, reward.dtype) == ((), jnp.float32)
        assert terminated.dtype == truncated.dtype == bool
        assert info["final_observation"].shape == obs.shape
        assert info["terminated"] == terminated
        assert info["truncated"] == truncated


def test_spec_tells_the_truth(env):
    spec = env.spec
    assert env.num_actions == spec.num_actions >= 1
    assert env.name == spec.name == type(env).__name__
    assert spec.obs_dim == int(np.prod(spec.obs_shape))
    task, rows = walk(env, 2 * spec.max_steps_in_episode)
    assert task.max_steps_in_episode == spec.max_steps_in_episode
    for _, _, _, (obs, *_, info) in rows:
        for seen in (obs, info["final_observation"]):
            assert np.all((seen >= spec.obs_low) & (seen <= spec.obs_high))


def test_settings_hash_and_compare(env):
    assert env == dataclasses.replace(env)
    assert hash(env) == hash(dataclasses.replace(env))


def test_default_params_are_a_fixed_task(env):
    close(env.default_params, env.default_params)
    env.validate_task(env.default_params)
    close(env.reset(key_for(0, "x")), env.reset(key_for(0, "x"), env.default_params))


# -- one meaning, however it is run -----------------------------------------------------------------------------------


def test_jit_is_eager(env):
    task, rows = walk(env, HORIZON + 1)
    for key, state, action, outcome in rows[-2:]:  # the end of an episode and the step after
        with jax.disable_jit():
            close(env.step(key, state, action, task), outcome)


def test_vmap_is_a_loop(env):
    tasks = TaskSet.draw(env, 0, "vmap", 5).params
    keys = jax.random.split(key_for(0, "keys"), 5)
    _, states = jax.vmap(env.reset)(keys, tasks)
    actions = jnp.arange(5, dtype=jnp.int32) % env.num_actions
    rows = keys, states, actions, tasks, jax.vmap(env.step)(keys, states, actions, tasks)
    for i in range(5):
        key, state, action, task, outcome = jax.tree.map(lambda leaf, i=i: leaf[i], rows)
        close(env.step(key, state, action, task), outcome)


def test_a_task_does_not_depend_on_its_batch(env):
    every = TaskSet.draw(env, 5, "batch", 6)
    close(TaskSet.draw(env, 5, "batch", 2, first_id=3).params, every[3:5].params)
    if env.num_tasks is None:  # in a finite family draws may repeat
        assert len(set(every.digests())) == 6


def test_no_key_is_used_twice(env):
    """Read off the program, which need not run."""

    @jax.jit
    def life(key, other):
        return interact(key, env, env.sample_task(other), Uniform.for_env(env), HORIZON + 1)

    with jax.debug_key_reuse(True):
        life.trace(jax.random.key(1), jax.random.key(0))


# -- episodes ---------------------------------------------------------------------------------------------------------


def test_episodes_end_and_restart(env):
    """At the end the next episode begins; ``final_observation`` and ``step_env`` still show the old one."""
    limit = env.spec.max_steps_in_episode
    task, rows = walk(env, 2 * limit + 1)
    since = 0
    for key, state, action, (obs, after, reward, terminated, truncated, info) in rows:
        since += 1
        key_step, key_reset = jax.random.split(key)
        last_obs, last_state, last_reward, last_terminated, _ = env.step_env(key_step, state, action, task)
        close((info["final_observation"], reward, terminated), (last_obs, last_reward, last_terminated))
        assert bool(truncated) == bool(env.is_truncated(last_state, task))
        assert bool(truncated) <= (since == limit) <= bool(truncated | terminated)
        over = bool(terminated | truncated)
        close((obs, after), env.reset_env(key_reset, task) if over else (last_obs, last_state))
        since = 0 if over else since


# -- worth ------------------------------------------------------------------------------------------------------------


def test_regret_is_never_negative_and_nothing_at_the_optimum(env):
    task, rows = walk(env, HORIZON)
    for _, state, _, _ in rows:
        regrets = np.array([env.regret(task, state, jnp.int32(a)) for a in range(env.num_actions)])
        best = env.optimal_action(task, state)
        assert (best.shape, best.dtype) == ((), jnp.int32)
        assert np.all(regrets >= 0)
        assert regrets[int(best)] == regrets.min() == 0.0


def test_optimal_return_is_what_the_oracle_earns(env_with_a_quick_optimum):
    """One episode of the oracle in 4 000 tasks. A bias of 0.1 standard deviations of the return shows as z = 6."""
    env = env_with_a_quick_optimum
    tasks = TaskSet.draw(env, 1, "optimum", 4000).params
    oracle, limit = agents["oracle"].for_env(env), env.spec.max_steps_in_episode

    @jax.jit
    @jax.vmap
    def gap(key, task):
        lived = interact(key, env, task, oracle, limit)
        over = lived.history.terminated | lived.history.truncated
        first = jnp.cumsum(over) - over == 0  # an episode that ends early is followed by others
        return jnp.sum(lived.curves.reward, where=first) - env.optimal_return(task), jnp.sum(lived.curves.regret)

    gaps, regrets = map(np.asarray, gap(jax.random.split(key_for(1, "lives"), 4000), tasks))
    assert np.all(regrets == 0)
    assert abs(gaps.mean()) <= GATE * gaps.std() / np.sqrt(gaps.size) + 1e-5


def test_bandit_optimal_return_is_horizon_times_best_mean(bandit):
    task = bandit.sample_task(key_for(2, "task"))
    assert np.isclose(bandit.optimal_return(task), HORIZON * jnp.max(bandit.arm_means(task)), rtol=1e-6)
    assert bandit.optimal_action(task) == jnp.argmax(bandit.arm_means(task))


def test_reward_law(bandit):
    """Mean and variance of 200 000 pulls of each arm; z = 4.3 is a shift of a hundredth of the noise."""
    task = bandit.sample_task(key_for(4, "task"))
    _, state = bandit.reset(key_for(4, "reset"), task)
    keys = jax.random.split(key_for(4, "pulls"), 200_000)
    pull = jax.jit(jax.vmap(lambda key, arm: bandit.step(key, state, arm, task)[2], in_axes=(0, None)))
    for arm, mean in enumerate(np.asarray(bandit.arm_means(task), np.float64)):
        rewards = np.asarray(pull(keys, jnp.int32(arm)), np.float64)
        is_binary = set(np.unique(rewards)) <= {0.0, 1.0}
        variance = mean * (1 - mean) if is_binary else bandit.noise_std**2
        if variance == 0:
            assert np.all(rewards == np.float32(mean))
            continue
        assert abs(rewards.mean() - mean) <= GATE * np.sqrt(variance / rewards.size)
        squares = np.square(rewards - mean)
        if getattr(bandit, "df", np.inf) > 4:  # else the squares have no variance; the law has a test of its own
            assert abs(squares.mean() - variance) <= GATE * squares.std() / np.sqrt(rewards.size)
        successive = (rewards[1:] - mean) * (rewards[:-1] - mean) / variance  # no correlation from key to key
        assert abs(successive.mean()) <= GATE / np.sqrt(successive.size)


def test_task_prior():
    """First two moments of the documented priors over 20 000 tasks; z = 4.3 is 3 % of a standard deviation."""
    documented = {
        "GaussianBandit-v0": {"means": (1 / 2, 1 / 12)},
        "BernoulliBandit-v0": {"means": (1 / 2, 1 / 12)},
        "LinearBandit-v0": {"theta": (0, 1 / 2)},
        "ShownLinearBandit-v0": {"theta": (1 / 2, 1 / 12), "features": (0, 1 / 3)},
    }
    for name, moments in documented.items():
        params = TaskSet.draw(make(name), 2, "prior", 20_000).params
        for field, (mean, variance) in moments.items():
            flat = np.asarray(getattr(params, field), np.float64).ravel()
            assert abs(flat.mean() - mean) <= GATE * np.sqrt(variance / flat.size)
            squares = np.square(flat - mean)
            assert abs(squares.mean() - variance) <= GATE * squares.std() / np.sqrt(flat.size)


def test_beta_prior_of_the_bernoulli_bandit():
    means = np.asarray(
        TaskSet.draw(make("BernoulliBandit-v0", prior_a=2.0, prior_b=6.0), 2, "prior", 20_000).params.means
    )
    assert abs(means.mean() - 1 / 4) <= GATE * means.std() / np.sqrt(means.size)
    assert np.isclose(means.var(), 2 * 6 / (8**2 * 9), rtol=0.03)


@pytest.mark.parametrize("df", [3.0, pytest.param(2.5, marks=pytest.mark.nightly)])
def test_heavy_tails_are_student_s(df):
    """Kolmogorov-Smirnov on 200 000 rewards, and as many beyond ten standard deviations as there should be."""
    env = make("HeavyTailedBandit-v0", df=df)
    keys, task = jax.random.split(key_for(4, "tails"), 200_000), env.default_params
    noise = np.asarray(jax.jit(jax.vmap(lambda key: env.draw_reward(key, jnp.float32(0.0), task)))(keys), np.float64)
    t = noise / (env.noise_std * np.sqrt((df - 2) / df))
    assert stats.kstest(t, stats.t(df).cdf).pvalue >= 2e-5
    chance = 2 * stats.t(df).sf(10.0)
    assert abs((np.abs(t) > 10).mean() - chance) <= GATE * np.sqrt(chance / t.size)


def test_the_good_arm_is_odd_as_often_as_said():
    """20 000 tasks; uniform within either side."""
    env = make("OddEvenBandit-v0", odd_prob=0.9)
    best = np.asarray(TaskSet.draw(env, 2, "prior", 20_000).params.means).argmax(1)
    wanted = np.where(np.arange(10) % 2 == 1, 0.9, 0.1) / 5
    freq = np.bincount(best, minlength=10) / 20_000
    assert np.all(np.abs(freq - wanted) <= GATE * np.sqrt(wanted / 20_000))


def test_paths_of_means():
    """Stationary laws: U[0, 1] at every time; changes as rare, and steps as small, as the settings say."""
    switching = environments["SwitchingBandit-v0"](horizon=100, change_prob=0.05)
    walk = environments["RandomWalkBandit-v0"](horizon=100, step_std=0.05)
    for env in (switching, walk):
        means = np.asarray(TaskSet.draw(env, 2, "prior", 4000).params.means, np.float64)  # [N, T, K]
        for t in (0, 99):
            assert stats.kstest(means[:, t, 0], "uniform").pvalue >= 2e-5
        steps = np.diff(means, axis=1)
        if env is switching:
            changed = (steps != 0).all(-1)
            assert np.array_equal(changed, (steps != 0).any(-1))
            assert abs(changed.mean() - 0.05) <= GATE * np.sqrt(0.05 / changed.size)
        else:
            inner = np.abs(means[:, :-1] - 0.5) < 0.2  # far from the walls no step is reflected
            assert abs(steps[inner].std() / 0.05 - 1) <= GATE / np.sqrt(2 * inner.sum())


def test_correlated_means_have_their_covariance():
    env = make("CorrelatedBandit-v0")
    covariance = np.asarray(env.features, np.float64) @ np.asarray(env.features, np.float64).T / env.num_arms
    gap = np.subtract.outer(np.arange(10), np.arange(10))
    np.testing.assert_allclose(covariance, np.exp(-(gap**2) / 8), atol=1e-5)


def test_linear_features_are_the_released_ones():
    released = np.random.RandomState(1234).normal(size=(10, 2)) / np.sqrt(2)
    np.testing.assert_allclose(environments["LinearBandit-v0"]().features, released, atol=5.1e-5)
    drawn = [np.asarray(make("LinearBandit-v0", feature_seed=seed).features) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])


# -- common random numbers --------------------------------------------------------------------------------------------


def test_competitors_meet_the_same_noise(bandit):
    """On one key the rewards of two agents differ only by their arms."""
    task = bandit.sample_task(key_for(6, "task"))
    policies = [agents["uniform"].for_env(bandit), agents["ucb"].for_env(bandit), agents["oracle"].for_env(bandit)]
    lives = [interact(key_for(6, "life"), bandit, task, agent, 60).history for agent in policies]
    means = bandit.arm_means(task)
    for one, other in itertools.combinations(lives, 2):
        same_arm = np.asarray(one.action == other.action)
        assert 0 < same_arm.sum() < 60
        assert np.array_equal(one.reward[same_arm], other.reward[same_arm])
        if bandit.noise_std is not None:
            np.testing.assert_allclose(one.reward - means[one.action], other.reward - means[other.action], atol=1e-5)


def test_the_noise_of_an_agent_can_be_varied_alone(bandit):
    task, uniform = bandit.sample_task(key_for(6, "task")), agents["uniform"].for_env(bandit)
    one, other = (
        interact(key_for(6, "life"), bandit, task, uniform, 60, key_for(6, "agent", i)).history for i in (0, 1)
    )
    same_arm = np.asarray(one.action == other.action)
    assert 0 < same_arm.sum() < 60
    assert np.array_equal(one.reward[same_arm], other.reward[same_arm])


def test_a_short_life_is_the_start_of_a_long_one(env_of_its_kind):
    env = env_of_its_kind
    task, uniform = env.sample_task(key_for(7, "task")), Uniform.for_env(env)
    short = interact(key_for(7, "life"), env, task, uniform, 50)
    long = interact(key_for(7, "life"), env, task, uniform, 100)
    close((short.history, short.curves), jax.tree.map(lambda leaf: leaf[:50], (long.history, long.curves)))


# -- bad input --------------------------------------------------------------------------------------------------------

BAD_SETTINGS = {
    "num_arms": (0, -1, 2.0, True, "3", 2**40),
    "horizon": (0, -5, 1.5, None, 2**40),
    "dim": (0, 10**9),
    "noise_std": (-1e-9, float("nan"), float("inf"), "0.3"),
    "prior_a": (0.0, -1.0, float("nan")),
    "prior_b": (0.0, float("inf")),
    "odd_prob": (-0.1, 1.1),
    "good": (1.1,),
    "change_prob": (-0.1, 1.1, float("nan")),
    "step_std": (-1e-9, float("inf")),
    "df": (2.0, float("nan")),
    "length": (0.0,),
    "scale": (0.0, float("inf")),
    "theta_norm": (0.0,),
    "feature_seed": (-1, 2**32, 0.5),
}


def test_bad_settings_are_refused_by_name(env):
    fields = {field.name for field in dataclasses.fields(env)}
    for field in sorted(fields & set(BAD_SETTINGS)):
        for value in BAD_SETTINGS[field]:
            with pytest.raises(InputError, match=rf"^{field}: got "):
                dataclasses.replace(env, **{field: value})


def test_validate_task_takes_every_drawn_task(env):
    for seed in range(3):
        env.validate_task(env.sample_task(key_for(seed, "valid")))


def test_validate_task_refuses_what_is_not_one(env):
    task = env.sample_task(key_for(8, "task"))
    names = [name for name in dataclasses.asdict(task) if name != "max_steps_in_episode"]
    for name in names:
        good = np.asarray(getattr(task, name))
        bad = good.copy().astype(np.float32)
        bad.flat[-1] = np.nan
        shorter = [good[..., :-1]] if good.ndim else []
        for wrong in (bad, np.full_like(bad, np.inf), bad[..., None], *shorter):
            with pytest.raises(InputError, match=rf"^task\.{name}: got "):
                env.validate_task(task.replace(**{name: jnp.asarray(wrong)}))
    for limit in (0, -1, 2.5, 2**40):
        with pytest.raises(InputError, match=r"^task\.max_steps_in_episode: got "):
            env.validate_task(task.replace(max_steps_in_episode=limit))
    for other in (None, 3.0, {"means": jnp.zeros(5)}, object()):
        with pytest.raises(InputError, match=r"^task: got "):
            env.validate_task(other)


def test_a_task_of_another_family_is_refused():
    gaussian, bernoulli = make("GaussianBandit-v0"), make("BernoulliBandit-v0")
    with pytest.raises(InputError, match=r"^task: got 'GaussianBanditTask', allowed: BernoulliBanditTask"):
        bernoulli.validate_task(gaussian.default_params)
    with pytest.raises(InputError, match=r"^task\.means: .*probabilities"):
        bernoulli.validate_task(bernoulli.default_params.replace(means=jnp.full(5, 1.01)))
