"""Laws that every registered agent obeys in every environment it fits.

A new file in icrl/agents is held to them at once. An agent may refuse an environment (``for_env`` raises
``InputError`` saying what it needs); that pair is left out.
"""

import dataclasses
import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from siblings import SIBLINGS

from icrl.agents._arm_agent import ArmAgent, ArmStats
from icrl.agents._linear_agent import eliminate
from icrl.core import threefry
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents, environments
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent
from icrl.testing import agents as laws
from icrl.testing.agents import STEPS, one_of, rollouts_of

PAIRS = [(env, agent) for agent in agents for env in environments]


@cache
def fit(env_name: str, agent_name: str):
    """(env, agent), or None when the agent refuses the environment."""
    fields = {field.name for field in dataclasses.fields(environments[env_name])}
    env = environments[env_name](**({"horizon": 10} if "horizon" in fields else {}))
    try:
        return env, agents[agent_name].for_env(env)
    except InputError as refusal:
        assert re.search(r"needs", str(refusal)), f"{refusal}: a refusal says what the agent needs"
        return None


FITTING = [pair for pair in PAIRS if fit(*pair) is not None]
# For the dearer laws: an agent that fits everywhere is tried in one environment, a choosy one in two that it fits.
FIRST = "BernoulliBandit-v0"
HOMES = [
    (env, agent)
    for agent in agents
    for env in ([FIRST] if fit(FIRST, agent) else [env for env, other in FITTING if other == agent][:2])
]


def name_of(pair):
    return f"{pair[1]}-in-{pair[0]}"


# One of each kind of memory: for the day's dearest laws.
FAMILIES = {"a2c", "dirichlet-mix", "exp3", "lin-ts", "neural-ts", "q-learning", "ucb", "ucb-vi"}


def is_represented(name):
    """Its memory is that of all arm agents, whom ``ucb`` and ``thompson-bernoulli`` stand for; or it is a sibling."""
    keeps_memory = getattr(agents[name], "update", None) is ArmAgent.update
    return name in SIBLINGS or (keeps_memory and name not in ("ucb", "thompson-bernoulli"))


def is_first_home(pair):
    return pair == next(home for home in HOMES if home[1] == pair[1])


def by_day(pair, day=None):
    """First homes, and every environment with one agent; other pairs, and what is represented, are for the night."""
    if day is None:
        day = (is_first_home(pair) and not is_represented(pair[1])) or (pair[1] == "ucb" and pair[0] not in SIBLINGS)
    return pytest.param(pair, id=name_of(pair), marks=() if day else pytest.mark.nightly)


@pytest.fixture(params=[by_day(pair) for pair in FITTING])
def pair(request):
    return request.param


@pytest.fixture(params=[by_day(pair) for pair in HOMES])
def home(request):
    return request.param


@pytest.fixture(params=[by_day(pair, is_first_home(pair) and pair[1] in FAMILIES) for pair in HOMES])
def family(request):
    return request.param


@cache
def lives(env_name: str, agent_name: str):
    """The rollouts of a pair."""
    return rollouts_of(*fit(env_name, agent_name))


def test_actions_are_actions(pair):
    laws.actions_are_actions(lives(*pair))


def test_act_and_update_keep_their_form(pair):
    env, agent = fit(*pair)
    laws.check_form(agent, env)


def test_regret_is_never_negative(pair):
    laws.regret_is_never_negative(lives(*pair))
    if pair[1] == "oracle":
        assert np.all(lives(*pair).together.curves.regret == 0)


def test_vmap_is_a_loop_and_the_key_decides(family):
    laws.vmap_is_a_loop_and_the_key_decides(lives(*family))


def test_an_agent_that_saw_nothing_can_act(home):
    laws.an_agent_that_saw_nothing_can_act(lives(*home))


def test_no_key_is_used_twice(home):
    laws.no_key_is_used_twice(lives(*home))


@pytest.mark.parametrize(
    "draw", [jax.random.normal, threefry.normal, threefry.split, lambda key: threefry.words(key, 2)]
)
def test_a_key_used_twice_is_seen(draw):
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(lambda key: (draw(key), threefry.uniform(key))).trace(jax.random.key(0))


def test_settings_are_swept_without_a_new_trace(family):
    laws.settings_are_swept_without_a_new_trace(lives(*family))


@pytest.mark.nightly
def test_sweep_over_a_setting_is_a_vmap(home):
    """Every float setting that is a leaf can be an array with an axis; the result is that of each value alone."""
    env, agent, keys, tasks, lived = lives(*home)
    leaves = [field.name for field in dataclasses.fields(agent) if field.metadata.get("pytree_node", True)]
    names = [name for name in leaves if isinstance(getattr(agent, name), float)]
    for name in names[:1]:
        swept = jax.vmap(
            lambda value, name=name: laws.rollout(keys[0], env, one_of(tasks), agent.replace(**{name: value}))
        )
        actions = swept(jnp.array([getattr(agent, name), 7.0])).history.action
        assert np.array_equal(actions[0], lived.history.action[0])


def test_memory_outlives_the_episode(pair):
    """Two episodes and a half: an agent that counts has counted them all."""
    *_, lived = lives(*pair)
    if isinstance(lived.agent_state, ArmStats):
        assert np.all(lived.agent_state.count.sum(axis=1) == STEPS)
        np.testing.assert_allclose(
            lived.agent_state.total.sum(axis=1), lived.history.reward.sum(axis=1), rtol=1e-5, atol=1e-5
        )


# -- single agents ----------------------------------------------------------------------------------------------------


def arm_stats(count, mean):
    count = jnp.array(count, jnp.int32)
    return ArmStats(count, count * jnp.array(mean, jnp.float32))


def choice(agent: Agent, state, *, greedy=False, seed=0):
    choose = agent.act_greedy if greedy else agent.act
    return int(choose(jax.random.key(seed), state, jnp.ones(1)))


def test_index_rules_on_states_worked_out_by_hand():
    def build(name, **settings):
        return agents[name](num_arms=3, **settings)

    state = arm_stats([100, 4, 25], [0.5, 0.4, 0.5])
    assert choice(build("empirical-mean"), state) == 0  # first of the two best
    assert choice(build("ucb"), state) == 1  # .6, .9, .7
    assert choice(build("ucb", c=0.1), state) == 2  # .51, .45, .52
    assert choice(build("lcb"), state) == 0  # .4, -.1, .3
    assert choice(build("ucb1"), state) == 1  # sqrt(2 ln 129) = 3.12
    assert choice(build("ucb1", scale=0.02), state) == 2  # .5062, .4312, .5125
    for name in ("empirical-mean", "ucb", "ucb1", "epsilon-greedy"):  # the arm never tried
        assert choice(build(name), arm_stats([3, 0, 5], [1.0, 0.0, 1.0]), greedy=name == "epsilon-greedy") == 1
    unseen = arm_stats([3, 0, 5], [-1.0, 0.0, -2.0])
    assert choice(build("empirical-mean"), unseen, greedy=True) == 0
    assert choice(build("empirical-mean"), arm_stats([0, 0, 0], [0, 0, 0]), greedy=True) == 0
    assert choice(build("lcb"), arm_stats([4, 0, 4], [-0.6, 0.0, -0.4])) == 2  # -1.1, -1, -.9


def test_epsilon_is_the_rate_of_exploration():
    """100 000 choices; z = 4.3 is a shift of 0.004 in the rate."""
    agent, state = agents["epsilon-greedy"](num_arms=4, epsilon=0.3), arm_stats([9, 9, 9, 9], [0.1, 0.9, 0.9, 0.2])
    keys = jax.random.split(jax.random.key(0), 100_000)
    counts = np.bincount(jax.jit(jax.vmap(lambda key: agent.act(key, state, None)))(keys), minlength=4)
    wanted = np.array([0.3 / 4, 0.35 + 0.3 / 4, 0.35 + 0.3 / 4, 0.3 / 4])
    assert np.all(np.abs(counts / 1e5 - wanted) <= 4.3 * np.sqrt(wanted * (1 - wanted) / 1e5))


@pytest.mark.parametrize("name", ["linucb", "lin-ts"])
def test_linear_agents_name_the_missing_features(name):
    with pytest.raises(InputError, match=r"^features: GaussianBandit neither has nor shows any, and \w+ needs them"):
        agents[name].for_env(environments["GaussianBandit-v0"]())


def test_agents_read_off_the_environment_what_they_may_know():
    assert agents["thompson-gaussian"].for_env(environments["GaussianBandit-v0"](noise_std=0.7)).noise_std == 0.7
    assert agents["posterior-gaussian"].for_env(environments["GaussianBandit-v0"](noise_std=0.7)).noise_std == 0.7
    bernoulli = agents["thompson-bernoulli"].for_env(environments["BernoulliBandit-v0"](prior_a=2.0, prior_b=3.0))
    assert (bernoulli.prior_a, bernoulli.prior_b) == (2.0, 3.0)
    fixed, shown = environments["LinearBandit-v0"](dim=4, noise_std=0.2), environments["ShownLinearBandit-v0"]()
    lin_ts = agents["lin-ts"].for_env(fixed)
    assert (lin_ts.prior_var, lin_ts.noise_std, lin_ts.dim) == (0.25, 0.2, 4)
    assert np.array_equal(lin_ts.features, fixed.features)
    lin_ts = agents["lin-ts"].for_env(shown)
    assert (lin_ts.prior_var, lin_ts.noise_std, lin_ts.features) == (1.0, 1.5, None)
    shown_less = environments["ShownLinearBandit-v0"](noise_std=0.5)
    assert [agents["linucb"].for_env(env).beta for env in (environments["LinearBandit-v0"](), shown)] == [1.0, 2.0]
    noisier = environments["LinearBandit-v0"](noise_std=0.6)
    assert agents["linucb"].for_env(noisier).beta == pytest.approx(2.0)  # twice Lee et al.'s, as the noise is
    assert agents["linucb"].for_env(fixed).beta == 1.0  # no less under less noise
    assert agents["linucb"].for_env(shown_less).beta == pytest.approx(2 / 3)  # of Lin et al.'s 2 under 1.5
    assert agents["oful"].for_env(shown).length == pytest.approx(5**0.5)
    assert agents["oful"].for_env(environments["LinearBandit-v0"]()).length == pytest.approx(np.log(20) ** 0.5)
    assert agents["oful"].for_env(environments["ContextualLinearBandit-v0"]()).length == 1.0
    switching = environments["SwitchingBandit-v0"](horizon=300)
    assert agents["discounted-ucb"].for_env(switching).discount == pytest.approx(1 - 0.1 / 4)
    assert agents["discounted-ucb"].for_env(switching, reward_range=2.0).discount == pytest.approx(1 - 0.1 / 8)
    chain = agents["psrl"].for_env(environments["Chain-v0"]())
    assert (chain.prior_mean, chain.prior_var) == (5.0, 25.0)
    alone, told = (
        agents["q-learning"].for_env(environments["Chain-v0"](), **more) for more in ({}, {"anneal_steps": 9})
    )
    assert (alone.initial_value, alone.discount, alone.epsilon) == (100.0, 0.95, 0.0)  # r_max H / 2, 1 - 1/H
    assert (told.initial_value, told.epsilon, told.final_epsilon) == (0.0, 1.0, 0.05)
    for name in set(agents) - {"in-context", "oracle"}:
        if (found := fit("LinearBandit-v0", name)) is not None:  # settings given by the caller win
            env, _ = found
            for field in (field.name for field in dataclasses.fields(agents[name]) if "float" in str(field.type)):
                assert getattr(agents[name].for_env(env, **{field: 0.125}), field) == 0.125


@pytest.mark.parametrize("dim", [1, 2, 5, pytest.param(12, marks=pytest.mark.nightly)])
def test_eliminate_is_a_triangular_solve(dim):
    rng = np.random.default_rng(dim)
    rows = rng.normal(size=(3 * dim, dim))
    matrix, right = rows.T @ rows + 0.1 * np.eye(dim), rng.normal(size=(dim, 4))
    wanted = np.linalg.solve(np.linalg.cholesky(matrix), right)
    found = jax.jit(eliminate)(jnp.array(matrix), jnp.array(right), 0.1)
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


def test_eliminate_survives_rounding():
    """One direction seen a million times: in float32 the second pivot is noise, and without care often negative."""
    size = jnp.linspace(1e5, 1e6, 999)
    matrix = size[:, None, None] * jnp.ones((1, 2, 2)) + 1e-3 * jnp.eye(2)[None]
    solved = jax.jit(jax.vmap(lambda m: eliminate(m, jnp.array([[1.0], [0.0]]), 1e-3)))(matrix)
    assert np.all(np.isfinite(solved))


@pytest.mark.parametrize("name", ["linucb", "lin-ts"])
@pytest.mark.parametrize("env_settings", [{"noise_std": 0.0}, pytest.param({"dim": 8}, marks=pytest.mark.nightly)])
def test_linear_agents_stay_finite(name, env_settings):
    """Also without noise, where the regression becomes singular, and over a long life."""
    env = environments["LinearBandit-v0"](**env_settings)
    agent = agents[name].for_env(env)
    run = jax.jit(jax.vmap(lambda key, task: interact(key, env, task, agent, 1000)))
    lived = run(jax.random.split(key_for(0, "finite"), 20), TaskSet.draw(env, 0, "finite", 20).params)
    index = jax.vmap(lambda state: jnp.stack(agent.whiten(state, jnp.ones(1), 1e-4)[0]))(lived.agent_state)
    assert np.all(np.isfinite(index))
    late = np.asarray(lived.curves.regret[:, 500:]).mean()
    assert late <= 0.05
