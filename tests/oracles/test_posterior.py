"""Posterior samplers against the posteriors they claim: laws, tails, calibration, and what an ideal DPT would output.

Gates are p >= 2e-5 or |z| <= 4.3, with fixed seeds. Simulation-based calibration (Talts et al. 2018): draw a task from
the prior, let the agent live in it, and rank the true parameter among posterior draws; the ranks must be uniform.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icrl.agents._arm_agent import ArmStats
from icrl.agents.posterior_gaussian import PosteriorGaussian
from icrl.agents.thompson_bernoulli import ThompsonBernoulli, beta_log_odds
from icrl.core.interact import interact
from icrl.core.registry import agents, environments
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet

P_GATE, Z_GATE = 2e-5, 4.3


def by_day(value, *cheap):
    """A test parameter, for the night unless it is one of ``cheap``."""
    return pytest.param(value, marks=() if value in cheap else pytest.mark.nightly)


def arm_stats(count, mean):
    count = np.array(count)
    return ArmStats(jnp.array(count, jnp.int32), jnp.array(count * np.array(mean), jnp.float32))


# -- posterior-gaussian: the cut normal law ---------------------------------------------------------------------------

# (pulls, empirical mean, noise std): inside, at and beyond the ends of [0, 1]; z is how far, in posterior std
LAWS = {
    "inside": (9, 0.4, 0.3),
    "wide": (1, 0.7, 1.5),
    "narrow": (500, 0.95, 0.3),
    "at the end": (4, 0.0, 0.3),
    "below, z = 3": (9, -0.3, 0.3),
    "above, z = 3": (9, 1.3, 0.3),
    "below, z = 9": (9, -0.9, 0.3),
    "above, z = 9": (9, 1.9, 0.3),
    "never pulled": (0, 0.0, 0.3),
}


def reference(count, mean, noise_std):
    """The law by scipy, in float64, given the mean as float32 has it."""
    if count == 0:
        return stats.uniform()
    mean, std = float(np.float32(np.float32(count * mean) / count)), noise_std / np.sqrt(count)
    return stats.truncnorm(-mean / std, (1 - mean) / std, loc=mean, scale=std)


def law_of(count, mean, noise_std):
    agent = PosteriorGaussian(num_arms=1, noise_std=noise_std)
    return agent.posterior(arm_stats([count], [mean]))


@pytest.mark.parametrize("name", LAWS)
def test_draws_follow_the_cut_normal(name):
    """Kolmogorov-Smirnov on 200 000 draws; a shift of the distribution function by 0.006 is seen."""
    level = jax.random.uniform(key_for(0, "draws"), (200_000, 1), minval=1e-7)
    draws = np.asarray(law_of(*LAWS[name]).at_level(level), np.float64)[:, 0]
    assert np.all((draws >= 0) & (draws <= 1))
    assert stats.kstest(draws, reference(*LAWS[name]).cdf).pvalue >= P_GATE


@pytest.mark.parametrize("name", LAWS)
def test_quantiles_in_both_tails(name):
    """Against scipy from level 1e-6 to 1 - 1e-6, in units of the law's own standard deviation."""
    law, wanted = law_of(*LAWS[name]), reference(*LAWS[name])
    tail = np.array([1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    found = np.asarray(law.at_level(jnp.array(tail, jnp.float32)[:, None]))[:, 0]
    mirrored = law.side[0] < 0 and LAWS[name][0] > 0
    expected = wanted.isf(tail) if mirrored else wanted.ppf(tail)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-3 * wanted.std())


@pytest.mark.parametrize("name", LAWS)
def test_distribution_function(name):
    law, wanted = law_of(*LAWS[name]), reference(*LAWS[name])
    value = np.linspace(0, 1, 101, dtype=np.float32)
    found = np.asarray(law.prob_below(jnp.array(value)[:, None]))[:, 0]
    np.testing.assert_allclose(found, wanted.cdf(value), atol=2e-5)


def test_no_noise_and_impossible_means_stay_finite():
    agent = PosteriorGaussian(num_arms=4, noise_std=0.0)
    state = arm_stats([3, 3, 0, 3], [0.2, 0.8, 0.0, 5.0])
    level = jax.random.uniform(key_for(0, "draws"), (1000, 4), minval=1e-7)
    draws = np.asarray(agent.posterior(state).at_level(level))
    np.testing.assert_allclose(draws[:, [0, 1, 3]], np.broadcast_to([0.2, 0.8, 1.0], (1000, 3)), atol=1e-5)
    assert np.ptp(draws[:, 2]) > 0.9
    assert agent.optimal_action_probs(state).argmax() == 3
    two = np.asarray(agent.optimal_action_probs(arm_stats([3, 3, 0, 1], [0.2, 0.8, 0.0, 0.1])))
    np.testing.assert_allclose(two, [0, 0.8, 0.2, 0], atol=0.01)


# -- P(arm a is the best | data) --------------------------------------------------------------------------------------

STATES = {
    "nothing seen": ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
    "one pull": ([0, 1, 0, 0, 0], [0, 0.9, 0, 0, 0]),
    "a few": ([3, 1, 0, 5, 2], [0.3, 0.6, 0, 0.5, 0.2]),
    "close race": ([100, 120, 90, 110, 80], [0.71, 0.7, 0.69, 0.3, 0.72]),
    "one arm known": ([0, 2000, 1, 0, 3], [0, 0.8, 0.7, 0, 0.5]),
    "top of the range": ([40, 40, 40, 2, 0], [1.02, 1.0, 0.98, 1.2, 0]),
}


def best_arm_by_monte_carlo(draw, num_arms):
    """Frequencies of the best arm in a million float64 draws, and their standard errors."""
    rng = np.random.default_rng(0)
    values = np.stack([draw(rng, arm) for arm in range(num_arms)])
    freq = np.bincount(values.argmax(0), minlength=num_arms) / values.shape[1]
    return freq, np.sqrt(freq * (1 - freq) / values.shape[1])


@pytest.mark.parametrize("name", STATES)
def test_gaussian_optimal_action_probs(name):
    count, mean = STATES[name]
    state = arm_stats(count, mean)
    found = np.asarray(PosteriorGaussian(num_arms=5).optimal_action_probs(state))
    laws = [reference(n, m, 0.3) for n, m in zip(count, mean, strict=True)]
    freq, error = best_arm_by_monte_carlo(lambda rng, arm: laws[arm].ppf(rng.random(1_000_000)), 5)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert np.all(np.abs(found - freq) <= Z_GATE * error + 2e-4)


@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.5, 2.0)], ids=str)
@pytest.mark.parametrize("name", STATES)
def test_bernoulli_optimal_action_probs(name, prior):
    count, mean = np.array(STATES[name])
    count = np.minimum(count, 1000)
    success = np.round(count * np.minimum(mean, 1))
    state = ArmStats(jnp.array(count, jnp.int32), jnp.array(success, jnp.float32))
    found = np.asarray(ThompsonBernoulli(5, *prior).optimal_action_probs(state))
    a, b = prior[0] + success, prior[1] + count - success
    freq, error = best_arm_by_monte_carlo(lambda rng, arm: rng.beta(a[arm], b[arm], 1_000_000), 5)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert np.all(np.abs(found - freq) <= Z_GATE * error + 1e-3)


@pytest.mark.parametrize("name", [by_day(name, "a few", "close race") for name in STATES])
def test_actions_follow_optimal_action_probs(name):
    """200 000 actions in one state: posterior sampling is probability matching. |z| = 4.3 is a shift of 0.005."""
    count, mean = STATES[name]
    bernoulli = arm_stats(count, np.minimum(np.round(np.array(count) * np.array(mean)) / np.maximum(count, 1), 1))
    for agent, state in (
        (PosteriorGaussian(num_arms=5), arm_stats(count, mean)),
        (ThompsonBernoulli(num_arms=5), bernoulli),
    ):
        probs = np.asarray(agent.optimal_action_probs(state), np.float64)
        keys = jax.random.split(key_for(1, "acts"), 200_000)
        act = jax.jit(lambda keys, agent=agent, state=state: jax.vmap(lambda key: agent.act(key, state, None))(keys))
        freq = np.bincount(np.asarray(act(keys)), minlength=5) / len(keys)
        assert np.all(np.abs(freq - probs) <= Z_GATE * np.sqrt(probs * (1 - probs) / len(keys)) + 4e-4)


# Cross-entropy of the exact posterior on DPT contexts, by an independent program; each +- .012.
IDEAL = {0: 1.609, 1: 1.523, 5: 1.328, 20: 1.082, 100: 0.726, 250: 0.574, 500: 0.470}


def test_ideal_loss_on_dpt_contexts():
    """CE = -log P(a* | first j transitions), 20 000 contexts of Lee et al. 2023, A.3, w uniform on {0, .1, ..., 1}.

    It must agree with the published ideal, and with the mean entropy of the posterior: whoever knows the true
    posterior is as wrong as they expect to be. That difference has a standard error of 0.003.
    """
    rng = np.random.default_rng(11)
    num = 20_000
    means, count, total, done = rng.random((num, 5)), np.zeros((num, 5)), np.zeros((num, 5)), 0
    weight = rng.integers(11, size=(num, 1)) / 10
    probs = (1 - weight) * rng.dirichlet(np.ones(5), num) + weight * np.eye(5)[rng.integers(5, size=num)]
    posterior = jax.jit(jax.vmap(PosteriorGaussian(num_arms=5).optimal_action_probs))
    for prefix, ideal in IDEAL.items():
        more = rng.multinomial(prefix - done, probs / probs.sum(1, keepdims=True))
        count, done = count + more, prefix
        total += more * means + 0.3 * np.sqrt(more) * rng.normal(size=more.shape)
        said = posterior(ArmStats(jnp.array(count, jnp.int32), jnp.array(total, jnp.float32)))
        said = np.maximum(np.asarray(said, np.float64), 1e-12)
        loss = -np.log(said[np.arange(num), means.argmax(1)])
        surprise = loss + (said * np.log(said)).sum(1)
        error = loss.std() / np.sqrt(num)
        print(f"prefix {prefix}: {loss.mean():.4f} +- {error:.4f}, reference {ideal}")
        assert abs(loss.mean() - ideal) <= 3 * np.hypot(0.012, error)
        assert abs(surprise.mean()) <= Z_GATE * surprise.std() / np.sqrt(num) + 1e-3


# -- calibration ------------------------------------------------------------------------------------------------------

DRAWS, TASKS, STEPS = 19, 20_000, 25


def gaussian_draws(agent, key, state, task):
    level = jax.random.uniform(key, (DRAWS, agent.num_arms), minval=1e-7)
    return agent.posterior(state).at_level(level), task.means


def bernoulli_draws(agent, key, state, task):
    log_odds = jax.vmap(lambda key: beta_log_odds(key, *agent.posterior(state)))(jax.random.split(key, DRAWS))
    return jax.nn.sigmoid(log_odds), task.means


def linear_draws(agent, key, state, task):
    """Of the arms' values <theta, x_a>, through the very function that ``act`` uses."""
    z = jax.random.normal(key, (DRAWS, agent.dim))
    return jax.vmap(lambda z: agent.values(state, jnp.ones(1), z))(z), agent.features @ task.theta


CALIBRATED = {
    "posterior-gaussian": ("GaussianBandit-v0", {}, gaussian_draws),
    "thompson-bernoulli": ("BernoulliBandit-v0", {}, bernoulli_draws),
    "thompson-bernoulli, Beta(2, 5)": ("BernoulliBandit-v0", {"prior_a": 2.0, "prior_b": 5.0}, bernoulli_draws),
    "lin-ts": ("LinearBandit-v0", {}, linear_draws),
    "lin-ts, d = 4": ("LinearBandit-v0", {"dim": 4, "num_arms": 6, "noise_std": 0.5}, linear_draws),
}


def ranks(env, agent, draw, num_tasks=TASKS):
    """How many of DRAWS posterior draws lie below the truth, [N, K], after STEPS steps of the agent's own life."""

    def one(key_life, key_draws, task):
        state = interact(key_life, env, task, agent, STEPS).agent_state
        drawn, truth = draw(agent, key_draws, state, task)
        return jnp.sum(drawn < truth[None], axis=0)

    tasks = TaskSet.draw(env, 3, "calibration", num_tasks).params
    keys = [jax.random.split(key_for(3, purpose), num_tasks) for purpose in ("lives", "draws")]
    return np.asarray(jax.jit(jax.vmap(one))(*keys, tasks))


def p_value(rank):
    """Chi-square test of uniform ranks, the worst arm, Bonferroni-corrected."""
    tables = [np.bincount(column, minlength=DRAWS + 1) for column in rank.T]
    return min(1.0, min(stats.chisquare(table).pvalue for table in tables) * len(tables))


@pytest.mark.parametrize(
    "name", [by_day(name, "posterior-gaussian", "thompson-bernoulli", "lin-ts") for name in CALIBRATED]
)
def test_posteriors_are_calibrated(name):
    """20 000 tasks and 20 ranks: a posterior 3 % too wide or shifted by 2 % of its width is seen."""
    env_name, settings, draw = CALIBRATED[name]
    env = environments[env_name](**settings)
    agent = agents[name.split(",")[0]].for_env(env)
    assert p_value(ranks(env, agent, draw)) >= P_GATE


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("posterior-gaussian", {"noise_std": 0.33}),
        ("lin-ts", {"prior_var": 1.0}),
        pytest.param("posterior-gaussian", {"high": 1.05}, marks=pytest.mark.nightly),
        pytest.param("thompson-bernoulli", {"prior_a": 1.3}, marks=pytest.mark.nightly),
        pytest.param("lin-ts", {"noise_std": 0.33}, marks=pytest.mark.nightly),
    ],
)
def test_a_wrong_posterior_is_seen(name, wrong):
    env_name, settings, draw = CALIBRATED[name]
    env = environments[env_name](**settings)
    assert p_value(ranks(env, agents[name].for_env(env, **wrong), draw)) < P_GATE


# -- the samplers of thompson-bernoulli -------------------------------------------------------------------------------


SHAPES = ((1, 1), (7, 3), (0.5, 0.5), (0.3, 2), (1, 30), (400, 90))  # a and b


@pytest.mark.parametrize("shapes", [by_day(pair, (1, 1), (7, 3)) for pair in SHAPES])
def test_draws_follow_the_beta_law(shapes):
    """Kolmogorov-Smirnov on 200 000 draws, and the draws of one call are uncorrelated."""
    a, b = (jnp.full(2, value, jnp.float32) for value in shapes)
    keys = jax.random.split(key_for(0, "beta draws"), 200_000)
    log_odds = np.asarray(jax.jit(jax.vmap(lambda key: beta_log_odds(key, a, b)))(keys), np.float64)
    for column in log_odds.T:
        assert stats.kstest(1 / (1 + np.exp(-column)), stats.beta(*shapes).cdf).pvalue >= P_GATE
    ranks = stats.rankdata(log_odds[:, 0]), stats.rankdata(log_odds[:, 1])
    assert abs(np.corrcoef(*ranks)[0, 1]) <= Z_GATE / np.sqrt(len(log_odds))
