"""Laws that every registered environment obeys; a new file in icrl/envs is held to them at once.

Fixed seeds, so nothing flakes. Statistical gates are |z| <= 4.3 (2e-5 two-sided).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from siblings import KINDS, by_day

from icrl.core.errors import InputError
from icrl.core.registry import environments
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.envs._bandit import Bandit
from icrl.testing import bandits
from icrl.testing._law import GATE
from icrl.testing.environments import (
    HORIZON,
    LAWS,
    a_short_rollout_is_the_start_of_a_long_one,
    optimal_return_is_what_the_oracle_earns,
)

# Tried in fewer environments by day, see the fixtures.
OF_OTHERS = (a_short_rollout_is_the_start_of_a_long_one, optimal_return_is_what_the_oracle_earns)


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


@pytest.mark.parametrize("check", [check for check in LAWS if check not in OF_OTHERS], ids=lambda law: law.__name__)
def test_law(env, check):
    check(env)


def test_a_short_rollout_is_the_start_of_a_long_one(env_of_its_kind):
    a_short_rollout_is_the_start_of_a_long_one(env_of_its_kind)


def test_optimal_return_is_what_the_oracle_earns(env_with_a_quick_optimum):
    optimal_return_is_what_the_oracle_earns(env_with_a_quick_optimum)


@pytest.mark.parametrize("check", bandits.LAWS, ids=lambda law: law.__name__)
def test_law_of_bandits(bandit, check):
    check(bandit)


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


def test_a_task_of_another_family_is_refused():
    gaussian, bernoulli = make("GaussianBandit-v0"), make("BernoulliBandit-v0")
    with pytest.raises(InputError, match=r"^task: got 'GaussianBanditTask', allowed: BernoulliBanditTask"):
        bernoulli.validate_task(gaussian.default_params)
    with pytest.raises(InputError, match=r"^task\.means: .*probabilities"):
        bernoulli.validate_task(bernoulli.default_params.replace(means=jnp.full(5, 1.01)))
