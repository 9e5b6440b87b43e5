"""Planners and UCB-H against float64 twins, published totals, their own promises and the exact posterior.

A twin is NumPy, written from the formula and shown the same history. A choice is left out when the twin's two best
actions are closer than ``TIE``, where float32 may fall on either side.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog
from siblings import by_day

from icrl.agents._planner import Counts
from icrl.agents.opsrl import OptimisticPSRL
from icrl.agents.psrl import PSRL
from icrl.agents.ucrl2 import best_in_ball
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.envs.dark_room import DarkRoom
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.envs.random_mdp import RandomMDP
from icrl.envs.river_swim import RiverSwim
from icrl.evaluation.online import Trial

TIE = 1e-4
SIZES = pytest.mark.parametrize("num_tasks", [100, pytest.param(1000, marks=pytest.mark.nightly)])
EPISODES = 20


# -- twins ------------------------------------------------------------------------------------------------------------

SMALL = RandomMDP(num_states=6, num_actions=2, horizon=8, noise_std=0.0)
RIVERS = 20


def small_worlds(num_tasks):
    """Random MDPs with rewards in [0, 1] and, twenty times, RiverSwim, all with 6 states, 2 actions and H = 8."""
    drawn = TaskSet.draw(SMALL, 0, "twins", num_tasks)
    bounded = jax.vmap(SMALL.task_of)(drawn.params.transition, jax.nn.sigmoid(drawn.params.reward))
    river = RiverSwim(horizon=8).default_params
    params = jax.tree.map(lambda all, one: all.at[:RIVERS].set(one), bounded, river)
    return drawn.replace(params=params)


@functools.partial(jax.jit, static_argnames=("env", "steps"))
def live(keys, params, agent, env, steps):
    return jax.vmap(lambda key, task: interact(key, env, task, agent, steps).history)(keys, params)


def lived(agent, num_tasks, env=SMALL, num_episodes=EPISODES):
    """Keys [N], tasks and history [N, E H] of N lives."""
    tasks = small_worlds(num_tasks)
    keys = keys_for(key_for(0, "twin lives"), np.arange(num_tasks, dtype=np.uint32))
    return keys, tasks, live(keys, tasks.params, agent, env, num_episodes * env.horizon)


def plain(history):
    """State, action, reward and next state of a history [N, T], in NumPy."""
    states, after = (np.asarray(seen[..., 0], int) for seen in (history.obs, history.next_obs))
    return states, np.asarray(history.action), np.asarray(history.reward, np.float64), after


def plain_plan(successor, reward, ceiling, horizon):
    """Q [H, N, S, K] backwards: min(ceiling(left), reward(left) + successor(V)), all [N, S, K], V [N, S]; float64."""
    value, rows = np.zeros(reward(1).shape[:2]), []
    for left in range(1, horizon + 1):
        rows.append(np.minimum(reward(left) + successor(value), ceiling(left)))
        value = rows[-1].max(-1)
    return np.stack(rows[::-1])


def check(values, action, share):
    """``action`` [...] is the argmax of ``values`` [..., K] wherever the best is clear, at least a ``share`` of all."""
    second, best = np.moveaxis(np.sort(values, axis=-1)[..., -2:], -1, 0)
    clear = best - second > TIE * np.maximum(1.0, np.abs(best))
    assert clear.mean() >= share, clear.mean()
    wrong = clear & (values.argmax(-1) != action)
    assert wrong.sum() == 0, f"{wrong.sum()} of {clear.sum()} choices differ, first at {np.argwhere(wrong)[0]}"


def ucb_vi(agent, tries, mean, model, t, q, horizon):
    log = np.log(5 * 12 * max(t, 1) / agent.delta)
    root = agent.bonus_scale * np.sqrt(log / np.maximum(tries, 1))
    return plain_plan(
        lambda value: np.einsum("nsaz,nz->nsa", model, value),
        lambda left: np.where(tries == 0, np.inf, mean + left * root), lambda left: left, horizon,
    )  # fmt: skip


def ucb_vi_ch(agent, tries, mean, model, t, q, horizon):
    n, log = np.maximum(tries, 1), np.log(5 * 12 * max(t, 1) / agent.delta)
    reward = np.where(tries == 0, np.inf, mean + agent.bonus_scale * 7 * horizon * log * np.sqrt(1 / n))
    return plain_plan(
        lambda value: np.einsum("nsaz,nz->nsa", model, value), lambda left: reward,
        lambda left: np.minimum(left, q[horizon - left]), horizon,
    )  # fmt: skip


def ucb_vi_bf(agent, tries, mean, model, t, q, horizon):
    n, log = np.maximum(tries, 1), np.log(5 * 12 * max(t, 1) / agent.delta)
    fixed = 14 * horizon * log / (3 * n) + np.sqrt(8 * horizon**2 / n) + np.sqrt(log / (2 * n))
    reward = np.where(tries == 0, np.inf, mean + agent.bonus_scale * fixed)

    def successor(value):
        expected = np.einsum("nsaz,nz->nsa", model, value)
        away = np.square(value[:, None, None, :] - expected[..., None])
        return expected + agent.bonus_scale * np.sqrt(8 * log * np.einsum("nsaz,nsaz->nsa", model, away) / n)

    return plain_plan(successor, lambda left: reward, lambda left: np.minimum(left, q[horizon - left]), horizon)


def ucrl2(agent, tries, mean, model, t, q, horizon):
    n = np.maximum(tries, 1)
    reward = mean + agent.bonus_scale * np.sqrt(7 * np.log(2 * 6 * 2 * max(t, 1) / agent.delta) / (2 * n))
    radius = agent.bonus_scale * np.sqrt(14 * 6 * np.log(2 * 2 * max(t, 1) / agent.delta) / n)
    rows = np.arange(len(tries))

    def successor(value):
        order, p = np.argsort(value, axis=-1), model.copy()
        p[rows, ..., order[:, -1]] = np.minimum(1, p[rows, ..., order[:, -1]] + radius / 2)
        for worst in order.T:  # take from the worst until it is a distribution again
            here = p[rows, ..., worst]
            p[rows, ..., worst] = np.maximum(0, here - np.maximum(0, p.sum(-1) - 1))
        return np.einsum("nsaz,nz->nsa", p, value)

    return plain_plan(successor, lambda left: np.where(tries == 0, np.inf, reward), lambda left: left, horizon)


# name: (twin, a bonus that leaves something to choose, one that promises optimism)
TWINS = {
    "ucb-vi": (ucb_vi, 0.01, 0.5**0.5),
    "ucb-vi-ch": (ucb_vi_ch, 0.0005, 1.0),
    "ucb-vi-bf": (ucb_vi_bf, 0.001, 1.0),
    "ucrl2": (ucrl2, 0.02, 1.0),
}


def planned_values(twin, agent, history, horizon):
    """The twin's values [N, T, K] before every choice of a history [N, T]."""
    states, action, reward, after = plain(history)
    rows = np.arange(len(action))
    visits, total = np.zeros((len(rows), 6, 2, 6)), np.zeros((len(rows), 6, 2))
    values, q = np.zeros((*action.shape, 2)), np.full((horizon, len(rows), 6, 2), np.inf)
    for t in range(action.shape[1]):
        if t % horizon == 0:
            tries = visits.sum(-1)
            n = np.maximum(tries, 1)
            q = twin(agent, tries, total / n, visits / n[..., None], t, q, horizon)
        values[:, t] = q[t % horizon, rows, states[:, t]]
        visits[rows, states[:, t], action[:, t], after[:, t]] += 1
        total[rows, states[:, t], action[:, t]] += reward[:, t]
    return values


def ucb_h_values(agent, history, horizon):
    """The same for Q-learning with UCB-Hoeffding."""
    states, action, reward, after = plain(history)
    rows = np.arange(len(action))
    q, tries = np.full((len(rows), horizon + 1, 6, 2), float(horizon)), np.zeros((len(rows), horizon, 6, 2))
    q[:, horizon] = 0.0
    values = np.zeros((*action.shape, 2))
    for t in range(action.shape[1]):
        h = t % horizon
        values[:, t] = q[rows, h, states[:, t]]
        at = rows, h, states[:, t], action[:, t]
        tries[at] += 1
        n, log = tries[at], np.log(12 * (t + 1) / agent.delta)
        target = reward[:, t] + np.minimum(horizon, q[rows, h + 1, after[:, t]].max(-1))
        target += agent.bonus_scale * np.sqrt(horizon**3 * log / n)
        rate = (horizon + 1) / (horizon + n)
        q[at] = (1 - rate) * q[at] + rate * target
    return values


@SIZES
@pytest.mark.parametrize("name", [by_day(name) for name in (*TWINS, "ucb-h")])
def test_optimists_act_like_their_twins_and_keep_their_promises(name, num_tasks):
    check_optimist(name, agents[name], num_tasks)


def check_optimist(name, base, num_tasks):
    """Same actions at two sizes of the bonus; with the one that is promised to be enough, and rewards in [0, 1], the
    value of the start is above the truth in 99 % of the episodes. RiverSwim is among the tasks."""
    twin, small, enough = TWINS.get(name, (None, 0.001, 1.0))
    for bonus_scale in (small, enough):
        agent = base.for_env(SMALL, bonus_scale=jnp.float32(bonus_scale), r_max=1.0)
        _, tasks, history = lived(agent, num_tasks)
        told = agent.replace(bonus_scale=bonus_scale)
        along = ucb_h_values if twin is None else functools.partial(planned_values, twin)
        values = along(told, history, SMALL.horizon)
        check(values, np.asarray(history.action), share=0.4 if bonus_scale == small else 0.0)
        truth = np.asarray(jax.vmap(SMALL.optimal_return)(tasks.params))[:, None]
        held = values[:, :: SMALL.horizon].max(-1) >= truth - 1e-4
        print(name, bonus_scale, f"optimistic: {held.mean():.4f}, in RiverSwim {held[:RIVERS].mean():.4f}")
    assert held.mean() >= 0.99
    assert held[:RIVERS].mean() >= 0.99


@pytest.mark.parametrize("with_ends", [False, True])
def test_the_best_in_a_ball_is_that_of_a_linear_program(with_ends):
    """max P' V with P' a distribution and |P' - P|_1 <= radius, by SciPy, also at radius 0 and beyond all bounds.

    An end is a state more, worth 0, with others above and below it.
    """
    rng = np.random.default_rng(0)
    rows, value = rng.dirichlet(np.full(6, 0.5), (4, 3)), np.append(rng.normal(size=5).round(1), 0.0)
    assert value.min() < 0.0 < value.max()
    if not with_ends:
        rows = np.append(rows[..., :4], rows[..., 4:5] + rows[..., 5:], -1)
        value = value[:5]
    radius = rng.choice([0.0, 0.1, 0.5, 1.0, 5.0], (4, 3))
    ends = rows[..., 5] if with_ends else np.zeros((4, 3))
    given = (jnp.asarray(each, jnp.float32) for each in (rows[..., :5], radius, value[:5], ends))
    found, size = np.asarray(best_in_ball(*given)), len(value)
    eye = np.eye(size)
    for at in np.ndindex(4, 3):  # variables P' and |P' - P|
        above = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, size)), np.ones((1, size))]])
        limit = np.concatenate([rows[at], -rows[at], [radius[at]]])
        total = np.concatenate([np.ones(size), np.zeros(size)])[None]
        best = linprog(np.concatenate([-value, np.zeros(size)]), above, limit, total, [1.0])
        assert found[at] == pytest.approx(-best.fun, abs=1e-5)


def drawn_models(agent, key, history, horizon):
    """The models that a life under ``interact`` plans in, one an episode: P [E, S, K, S] and r [E, S, K]."""
    key_init = jax.random.split(jax.random.split(key)[1])[0]
    by_episode = jax.tree.map(lambda leaf: leaf.reshape(-1, horizon, *leaf.shape[1:]), history)

    def one_episode(carry, episode):
        counts, key = carry
        key_plan, key_later = jax.random.split(key)
        model = agent.draw_model(key_plan, counts)
        s, z = (seen[:, 0].astype(jnp.int32) for seen in (episode.obs, episode.next_obs))
        visits = counts.visits.at[s, episode.action, z].add(1)
        reward = counts.reward.at[s, episode.action].add(episode.reward)
        return (counts._replace(visits=visits, reward=reward), key_later), model

    start = jax.tree.map(jnp.zeros_like, agent.init(key_init).counts)
    return jax.lax.scan(one_episode, (start, key_init), by_episode)[1]


@SIZES
def test_psrl_acts_optimally_in_the_models_it_draws(num_tasks):
    check_psrl_plans(PSRL, num_tasks)


def check_psrl_plans(base, num_tasks):
    agent = base.for_env(SMALL, noise_std=1.0)
    keys, _, history = lived(agent, num_tasks)
    draw = jax.jit(jax.vmap(lambda key, life: drawn_models(agent, key, life, SMALL.horizon)))
    models = [np.asarray(table, np.float64).swapaxes(0, 1) for table in draw(keys, history)]
    states, action, *_ = plain(history)
    values, rows = np.zeros((*states.shape, 2)), np.arange(num_tasks)
    for episode, (transition, reward) in enumerate(zip(*models, strict=True)):
        q = plain_plan(
            lambda value, transition=transition: np.einsum("nsaz,nz->nsa", transition, value),
            lambda left, reward=reward: reward, lambda left: np.inf, SMALL.horizon,
        )  # fmt: skip
        for h in range(SMALL.horizon):
            t = episode * SMALL.horizon + h
            values[:, t] = q[h, rows, states[:, t]]
    check(values, action, share=0.4)


@pytest.mark.nightly
def test_optimistic_psrl_takes_the_best_of_its_draws():
    """Pair by pair and step by step, over three plans of PSRL; none of them is the best everywhere."""
    psrl, optimistic = PSRL.for_env(SMALL), OptimisticPSRL.for_env(SMALL, num_samples=3)
    visits = jnp.arange(72, dtype=jnp.int32).reshape(6, 2, 6) % 3
    counts = Counts(visits, jnp.ones((6, 2)), jnp.zeros((6, 2), jnp.int32))
    key, q = key_for(0, "optimistic"), jnp.zeros((8, 6, 2))
    plans = np.stack([psrl.plan(each, counts, q) for each in jax.random.split(key, 3)])
    np.testing.assert_allclose(optimistic.plan(key, counts, q), plans.max(0), rtol=1e-5)
    assert len(set(plans.argmax(0).ravel())) == 3


# -- published totals -------------------------------------------------------------------------------------------------

# Duan et al. 2016, table 2: total reward of PSRL after n episodes. Theirs is TabulaRL's with prior mean 0.
PUBLISHED = {10: 138.1, 25: 408.8, 50: 904.4, 75: 1417.1, 100: 1939.5}
OPTIMUM = 21.827  # mean V* of an episode, exact values of 50 000 tasks, standard error .010


def totals(num_tasks, num_episodes, **settings):
    """{n: (expected total reward after n episodes, standard error)}: the optimum less the true regret."""
    env = RandomMDP()
    tasks = TaskSet.draw(env, 0, "table", num_tasks)
    agent = PSRL.for_env(env, **{"prior_mean": 0.0, "prior_var": 1.0, **settings})  # TabulaRL's prior
    regret = Trial(env, tasks, num_episodes * env.horizon, 0).regret(agent)
    found = {}
    for n in (n for n in PUBLISHED if n <= num_episodes):
        lost = regret[:, n * env.horizon - 1]
        found[n] = n * OPTIMUM - lost.mean(), float(np.hypot(lost.std() / num_tasks**0.5, n * 0.010))
    print(num_tasks, settings, {n: f"{total:.1f} +- {error:.1f}" for n, (total, error) in found.items()})
    return found


@pytest.mark.nightly
def test_psrl_earns_what_was_published():
    """200 tasks, to 50 episodes: standard errors .6 % and .4 %, so that 2 % off is seen at three of them and more."""
    for n, (total, _) in totals(200, 50).items():
        assert n == 10 or abs(total / PUBLISHED[n] - 1) <= 0.02


@pytest.mark.nightly
def test_psrl_earns_what_was_published_in_full():
    """2 000 tasks; the published n = 10 is that of prior mean 0 and not of the true mean 1."""
    found = totals(2000, 100)
    for n, (total, _) in found.items():
        assert abs(total / PUBLISHED[n] - 1) <= 0.02
    informed = totals(2000, 10, prior_mean=1.0)
    assert informed[10][0] < 0.97 * PUBLISHED[10]


# -- the posterior ----------------------------------------------------------------------------------------------------


def test_draws_come_from_the_posterior():
    check_ranks(PSRL)


def check_ranks(base):
    """The rank of the truth among 15 draws is uniform (Talts et al. 2018): 4 000 tasks drawn from the agent's prior."""
    prior = {"concentration": 0.5, "reward_mean": 0.4, "reward_std": 0.8}
    env = RandomMDP(num_states=3, num_actions=2, horizon=4, noise_std=0.7, **prior)
    agent = base.for_env(env, prior_mean=0.4, prior_var=0.64)
    tasks = TaskSet.draw(env, 0, "ranks", 4000)

    @jax.jit
    @jax.vmap
    def ranks(key, task):
        key_life, key_draws = jax.random.split(key)
        counts = interact(key_life, env, task, agent, 12).agent_state.counts
        draws = jax.vmap(lambda key: agent.draw_model(key, counts))(jax.random.split(key_draws, 15))
        below = jax.tree.map(lambda drawn, true: (drawn < true[None]).sum(0), draws, (task.transition, task.reward))
        return jnp.stack([below[0][0, 0, 0], below[0][1, 1, 2], below[1][0, 1], below[1][2, 0]])

    for column in np.asarray(ranks(keys_for(key_for(0, "ranks"), tasks.ids), tasks.params)).T:
        counts = np.bincount(column, minlength=16)
        assert np.square(counts - 250).sum() / 250 <= 15 + 4.3 * np.sqrt(30), counts


def test_beta_draws_by_their_moments():
    check_beta_draws(PSRL)


def check_beta_draws(base):
    agent = base.for_env(DarkRoom(size=2))
    assert (agent.reward_prior, agent.concentration) == ("beta", 0.25)
    visits, reward = jnp.zeros((4, 5, 4), jnp.int32).at[1, 2, 3].set(6), jnp.zeros((4, 5)).at[1, 2].set(4.0)
    counts = Counts(visits, reward, jnp.zeros((4, 5), jnp.int32))
    draw = jax.jit(jax.vmap(lambda key: agent.draw_model(key, counts)))
    transition, reward = map(np.asarray, draw(jax.random.split(key_for(0, "beta"), 4000)))
    for drawn, a, b in (
        (reward[:, 1, 2], 5, 3), (reward[:, 0, 0], 1, 1), (transition[:, 1, 2, 3], 6.25, 0.75),
        (transition[:, 1, 2, 0], 0.25, 6.75), (transition[:, 0, 0, 1], 0.25, 0.75),
    ):  # fmt: skip
        mean, variance = a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1))
        assert abs(drawn.mean() - mean) <= 4.3 * np.sqrt(variance / 4000)
        squares = np.square(drawn - mean)
        assert abs(squares.mean() - variance) <= 4.3 * squares.std() / 4000**0.5


# -- rooms and bad input ----------------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_psrl_finds_the_goal_in_a_room():
    env = DarkRoom(size=4, horizon=10)
    tasks = TaskSet.of(env, [0, 3, 5, 8, 12, 15])
    optimum = float(np.mean(jax.vmap(env.optimal_return)(tasks.params)))
    returns = Trial(env, tasks, 60 * env.horizon, 0).returns(PSRL.for_env(env))
    print(optimum, returns[:, :10].mean(), returns[:, -10:].mean())
    assert returns[:, -10:].mean() > 0.8 * optimum > 2 * returns[:, :5].mean()


@pytest.mark.parametrize(
    ("setting", "field"),
    [({"reward_prior": "gamma"}, "reward_prior"), ({"concentration": 0.0}, "concentration"),
     ({"prior_var": -1.0}, "prior_var"), ({"prior_a": float("nan")}, "prior_a")],
)  # fmt: skip
def test_bad_settings_are_refused(setting, field):
    with pytest.raises(InputError, match=rf"^{field}: got [^\n]*$"):
        PSRL.for_env(RandomMDP(), **setting)


def test_real_observations_are_refused():
    with pytest.raises(InputError, match="needs"):
        PSRL.for_env(GaussianBandit())
