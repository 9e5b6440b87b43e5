"""Exact plans and beliefs of finite POMDPs against published values, brute force and an independent solver."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Transition
from icrl.envs.hidden_mdp import HiddenMDP
from icrl.envs.rock_sample import RockSample
from icrl.envs.t_maze import LEFT, RIGHT, TMaze, TMazePOBAX
from icrl.envs.tiger import LISTEN, Tiger
from icrl.planning import belief as beliefs
from icrl.planning.alpha_vectors import best_somewhere, plan_at, plan_everywhere
from icrl.planning.bounds import informed_values, planned, point_based, start_value
from icrl.planning.pomdp import from_dense, mdp_values
from icrl.planning.reachable_beliefs import reachable

GATE = 4.3
LONG = 400  # steps after which nothing is left of a discount of 0.95


def exact_value(env, discount=1.0, episodes=1):
    """Expected return under the prior, from all beliefs that can occur."""
    found = reachable(env.pomdp, env.horizon, episodes)
    return start_value(env.pomdp, plan_at(env.pomdp, found, env.horizon, discount)[0][0])


# -- published values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("opening_ends", "value", "net"), [(False, 19.3714, 2), (True, 3.7702, 3)])
def test_tiger_is_worth_what_is_published(opening_ends, value, net):
    """From the uniform belief with discount 0.95; a door is opened after ``net`` hints more for one side."""
    env = Tiger(horizon=LONG, opening_ends=opening_ends)
    sets = plan_at(env.pomdp, reachable(env.pomdp, LONG), LONG, 0.95)
    assert start_value(env.pomdp, sets[0][0]) == pytest.approx(value, abs=5e-5)
    odds = (0.85 / 0.15) ** np.arange(5)
    left = np.zeros((5, env.pomdp.num_states))
    left[:, 0], left[:, 1] = odds / (1 + odds), 1 / (1 + odds)
    assert (planned(sets, 10, left) != LISTEN).tolist() == [hints >= net for hints in range(5)]


def memoryless_best(env):
    """The most that a deterministic function of the observation alone earns in an episode, by trying them all."""
    tables, best = env.pomdp, -np.inf
    shown = np.flatnonzero(np.bincount(tables.obs[0, :, 0], minlength=tables.num_obs))
    for choice in itertools.product(range(tables.num_actions), repeat=len(shown)):
        policy = dict(zip(shown.tolist(), choice, strict=True))
        value = 0.0
        for state, prob in zip(tables.starts[0], tables.start_prob[0], strict=True):
            now, total = int(state), 0.0
            action = policy[int(tables.first_obs[now, 0])]
            for _ in range(env.horizon):
                total += tables.reward[action, now, 0]
                now = int(tables.next[action, now, 0])
                action = policy[int(tables.obs[action, now, 0])]
            value += prob * total
        best = max(best, value)
    return best


def test_t_mazes_need_memory():
    assert exact_value(TMaze()) == exact_value(TMaze(length=50)) == pytest.approx(1.0)
    assert exact_value(TMaze(active=True)) == pytest.approx(1.0)
    assert memoryless_best(TMaze(length=2)) == pytest.approx(0.5)
    assert exact_value(TMazePOBAX()) == pytest.approx(4.0)


def test_a_cue_of_unknown_meaning_is_worth_fetching_only_for_later_episodes():
    """One episode: a coin. Four: a coin, then certainty, if the first one is used to learn what the cue means."""
    env = TMaze(length=3, active=True, unknown_mapping=True)
    assert exact_value(env) == pytest.approx(0.5)
    assert exact_value(env, episodes=4) == pytest.approx(3.5)
    assert exact_value(TMazePOBAX(horizon=10, unknown_mapping=True), episodes=3) == pytest.approx(1.95 + 8.0)


def test_being_late_costs_and_time_runs_out():
    env = TMaze(length=4)
    task, rewards = env.default_params, []
    _, state = env.reset(key_for(0, "reset"), task)
    for action in (1, 0, 0, 0, 0):  # bump, then right
        _, state, reward, *_ = env.step(key_for(0, "step"), state, jnp.int32(action), task)
        rewards.append(float(reward))
    assert rewards == [-0.25] * 5


# -- brute force ------------------------------------------------------------------------------------------------------


def random_pomdp(seed, num_states=3, num_actions=2, num_obs=2, ends=True):
    """(dense arrays, tables) with a last observation for starts; rewards often equal, sometimes telling."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(num_states, 0.7), (num_actions, num_states))
    observation = rng.dirichlet(np.full(num_obs, 0.7), (num_actions, num_states))
    observation = np.pad(observation, ((0, 0), (0, 0), (0, 1)))
    reward = rng.integers(-1, 2, (num_actions, num_states, num_states)).astype(float)
    over = np.arange(num_states) == num_states - 1 if ends else np.zeros(num_states, bool)
    start = rng.dirichlet(np.ones(num_states)) * ~over
    start /= start.sum()
    return (transition, observation, reward, start, over), from_dense(transition, observation, reward, start, over)


def expectimax(dense, weights, steps, discount):
    """The best return of ``steps`` steps from unnormalised weights [S], over all histories of what is perceived."""
    transition, observation, reward, _, ends = dense
    if steps == 0 or not weights.any():
        return 0.0
    best = -np.inf
    for action in range(len(transition)):
        joint = weights[:, None] * transition[action]
        value = np.sum(joint * reward[action])
        for obs, paid in itertools.product(range(observation.shape[-1]), np.unique(reward)):
            after = np.sum(joint * (reward[action] == paid), axis=0) * observation[action, :, obs] * ~ends
            value += discount * expectimax(dense, after, steps - 1, discount)
        best = max(best, value)
    return best


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(i, marks=pytest.mark.nightly) for i in range(3, 30))])
def test_alpha_vectors_are_expectimax_over_histories(seed):
    """By both ways to plan; and the bounds lie on either side."""
    dense, tables = random_pomdp(seed, ends=seed % 3 > 0)
    discount = 1.0 if seed % 2 else 0.8
    wanted = expectimax(dense, dense[3], 3, discount)
    everywhere = plan_everywhere(tables, 3, discount)
    at = plan_at(tables, reachable(tables, 3), 3, discount)
    assert start_value(tables, everywhere[0][0]) == pytest.approx(wanted, abs=1e-9)
    assert start_value(tables, at[0][0]) == pytest.approx(wanted, abs=1e-9)
    informed = informed_values(tables, 3, discount)[0]
    seen = mdp_values(tables, 3, discount)[0]
    assert wanted - 1e-9 <= start_value(tables, informed.T) <= start_value(tables, seen.T) + 1e-5
    for belief in np.random.default_rng(seed).dirichlet(np.ones(3), 4) * ~dense[4]:
        best = (belief @ everywhere[0][0].T).max()
        assert best == pytest.approx(expectimax(dense, belief, 3, discount), abs=1e-9)
        assert (belief @ at[0][0].T).max() <= best + 1e-9
    lower, upper = point_based(tables, 3, 5)[1]
    optimum = expectimax(dense, dense[3], 3, 1.0)
    assert lower - 1e-9 <= optimum <= upper + 1e-9


def test_pruning_keeps_the_maximum_and_no_more():
    rng = np.random.default_rng(0)
    angle = np.linspace(0, np.pi / 2, 9)
    useful = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    useless = np.concatenate([useful - 0.01, (useful[:-1] + useful[1:]) / 2 - 1e-6, useful[:3]])
    vectors = np.concatenate([useful, useless])[rng.permutation(len(useful) + len(useless))]
    kept = vectors[best_somewhere(vectors)]
    assert len(kept) == len(np.unique(useful, axis=0))
    assert np.allclose(np.sort(kept[:, 0]), np.sort(useful[:, 0]))


def test_pruning_finds_what_no_sample_does():
    """Tangents of b^2 at points a few thousandths apart, each under its copies that are a hair lower."""
    at = 0.5 + 0.004 * np.arange(6)
    tangents = np.stack([-(at**2), 2 * at - at**2], axis=1)  # values at b = 0 and at b = 1
    vectors = np.concatenate([tangents - 1e-6, tangents - 2e-6, tangents])
    assert best_somewhere(vectors).tolist() == list(range(12, 18))


def paths_posterior(dense, steps):
    """P(s_T | all perceived) by summing over every path of states; ``steps`` are (action, obs, reward, ended)."""
    transition, observation, reward, start, ends = dense
    found = np.zeros(len(start))
    for path in itertools.product(range(len(start)), repeat=len(steps) + 1):
        weight = start[path[0]]
        for (here, there), (action, obs, paid, ended) in zip(itertools.pairwise(path), steps, strict=True):
            weight *= transition[action, here, there] * observation[action, there, obs]
            weight *= (reward[action, here, there] == paid) * (ends[there] == ended)
        found[path[-1]] += weight
    return found / found.sum() if found.any() else found


def test_the_filter_is_the_sum_over_all_paths():
    """1e-6, on histories drawn from random POMDPs; so is what it says of the next observation."""
    update = jax.jit(beliefs.updated)
    predict = jax.jit(beliefs.predicted)
    for seed in range(6):
        dense, wide = random_pomdp(seed)
        transition, observation, reward, start, ends = dense
        tables, rng = wide.in_32_bits(), np.random.default_rng(seed)
        belief = beliefs.seen_first(tables, beliefs.prior(tables), jnp.int32(2))
        # ``explored`` numbers states in the order in which they are found
        order = [int(s) for s in _order(dense)]
        state, steps = rng.choice(3, p=start), []
        for _ in range(5):
            action = int(rng.integers(2))
            if not steps:
                law = np.einsum("s,sn,no->o", start, transition[action], observation[action])
                np.testing.assert_allclose(predict(tables, belief, action), law, atol=1e-6)
            there = rng.choice(3, p=transition[action, state])
            obs, paid = rng.choice(3, p=observation[action, there]), reward[action, state, there]
            steps.append((action, int(obs), float(paid), bool(ends[there])))
            belief = update(tables, belief, action, np.float32(paid), np.int32(obs), bool(ends[there]))
            np.testing.assert_allclose(belief, paths_posterior(dense, steps)[order], atol=1e-6)
            state = there
            if ends[there]:
                break


def _order(dense):
    """States of a dense POMDP in the order in which a search from the start meets them."""
    transition, _, _, start, ends = dense
    found = list(np.flatnonzero(start))
    for state in found:
        for action in range(len(transition)):
            ahead = [state] if ends[state] else np.flatnonzero(transition[action, state])
            found += [s for s in ahead if s not in found]
    return found


def test_an_impossible_step_gives_no_belief():
    tables = Tiger().pomdp.in_32_bits()
    belief = beliefs.prior(tables)
    update = jax.jit(beliefs.updated)
    for reward, ended in ((3.0, False), (-1.0, True)):
        assert not np.any(update(tables, belief, jnp.int32(LISTEN), jnp.float32(reward), jnp.int32(1), ended))
    agent = agents["belief-optimal"].for_env(Tiger())
    step = Transition(
        jnp.zeros(1), jnp.int32(LISTEN), jnp.float32(3.0), jnp.ones(1), jnp.bool_(False), jnp.bool_(False)
    )
    np.testing.assert_allclose(jax.jit(agent.update)(agent.init(key_for(0, "x")), step).belief, [0.5, 0.5])


# -- agents -----------------------------------------------------------------------------------------------------------


def test_an_optimal_agent_earns_what_its_plan_says_and_knows_what_it_has_seen():
    """2 000 trials of two tasks; the posterior over tasks is that of counting hints by hand."""
    env = Tiger(horizon=5, levels=2, opening_ends=True)
    agent = agents["belief-optimal"].for_env(env, episodes=2)
    tasks, num_steps = TaskSet.draw(env, 0, "tasks", 2000).params, 2 * env.horizon
    play = jax.jit(jax.vmap(lambda key, task: interact(key, env, task, agent, num_steps)))
    lived = play(jax.random.split(key_for(0, "trials"), 2000), tasks)
    over = np.asarray(lived.history.terminated | lived.history.truncated)
    first_two = np.cumsum(over, 1) - over < 2
    earned = np.sum(np.asarray(lived.curves.reward) * first_two, axis=1)
    assert agent.plan.value == pytest.approx(exact_value(env, episodes=2))
    assert abs(earned.mean() - agent.plan.value) <= GATE * earned.std() / 2000**0.5
    for trial in range(20):
        history = jax.tree.map(lambda leaf, i=trial: np.asarray(leaf[i]), lived.history)
        found = beliefs.task_posterior(agent.tables, lived.agent_state.belief[trial])
        np.testing.assert_allclose(found, level_posterior(history, (0.85, 0.6)), atol=1e-5)


def test_the_cue_is_fetched_as_long_as_there_is_a_later_episode():
    env = TMaze(length=2, active=True, unknown_mapping=True)
    agent = agents["belief-optimal"].for_env(env, episodes=3)
    act, start = jax.jit(agent.act), agent.init(key_for(0, "x"))
    obs = env.vector(env.pomdp.first_obs[env.pomdp.starts[0, 0], 0])
    chosen = [int(act(key_for(0, "act"), start._replace(episode=jnp.int32(e)), obs)) for e in (0, 1, 2, 7)]
    assert chosen == [
        LEFT,
        LEFT,
        RIGHT,
        RIGHT,
    ]  # in the last one all is a coin, and the first of equal actions is taken


def level_posterior(history, accuracies):
    """P(accuracy | history) of Tiger whose episodes end when a door is opened."""
    weights, left, right = np.ones(len(accuracies)), 0, 0
    for t in range(len(history.action)):
        heard = int(history.next_obs[t, 0])
        if history.action[t] == LISTEN:
            left, right = left + (heard == 1), right + (heard == 2)
            if not (history.terminated[t] or history.truncated[t] or t + 1 == len(history.action)):
                continue
            sides = (0, 1)
        else:
            behind = history.action[t] - 1
            sides = (behind if history.reward[t] < 0 else 1 - behind,)
        for i, p in enumerate(accuracies):
            likely = (p**left * (1 - p) ** right, p**right * (1 - p) ** left)
            weights[i] *= sum(0.5 * likely[side] for side in sides)
        left = right = 0
    return weights / weights.sum()


def test_sampling_plays_what_is_optimal_in_a_state_as_often_as_the_belief_says():
    agent = agents["belief-sampling"].for_env(Tiger())
    state = agent.init(key_for(0, "x"))._replace(belief=jnp.array([0.3, 0.7]), step=jnp.int32(1))
    draws = jax.jit(jax.vmap(lambda key: agent.act(key, state, jnp.ones(1))))
    counts = np.bincount(draws(jax.random.split(key_for(0, "draws"), 20_000)), minlength=3)
    assert counts[LISTEN] == 0
    assert abs(counts[2] - 6000) <= GATE * np.sqrt(20_000 * 0.21)  # the tiger is left: the right door


def test_qmdp_takes_the_best_on_average():
    env = Tiger(horizon=1)
    agent = agents["qmdp"].for_env(env)
    for left, action in ((0.95, 2), (0.5, LISTEN), (0.05, 1)):
        state = agent.init(key_for(0, "x"))._replace(belief=jnp.array([left, 1 - left]))
        assert int(agent.act(key_for(0, "act"), state, jnp.zeros(1))) == action


def test_who_needs_a_small_pomdp_says_so():
    with pytest.raises(
        InputError, match=r"^environment HiddenMDP: got 24 states, 10 steps and 1 episodes, allowed: .*needs"
    ):
        agents["belief-optimal"].for_env(HiddenMDP())
    agent = agents["point-based"].for_env(HiddenMDP(horizon=4), num_beliefs=10)
    assert agent.plan.value <= agent.plan.upper


# -- RockSample against a solver that knows what a rock is -------------------------------------------------------------


def rock_value(env, horizon):
    """Exact value by recursion over (cell, probability that each rock is good): rocks stay independent."""
    cells, size = env.cells, env.size

    @functools.cache
    def value(x, y, good, steps):
        if steps == 0:
            return 0.0
        best = 10.0 if x + 1 == size else value(x + 1, y, good, steps - 1)
        for there in ((x, y + 1), (x, y - 1), (x - 1, y)):
            if there[0] >= 0 and 0 <= there[1] < size:
                best = max(best, value(*there, good, steps - 1))
        if (x, y) in cells:
            rock = cells.index((x, y))
            best = max(best, 20 * good[rock] - 10 + value(x, y, put(good, rock, 0.0), steps - 1))
        for rock, (a, b) in enumerate(cells):
            right = (1 + 2 ** (-(((x - a) ** 2 + (y - b) ** 2) ** 0.5) / 20)) / 2
            p, total = good[rock], 0.0
            if p in (0.0, 1.0):
                continue
            for like_good, like_bad in ((right, 1 - right), (1 - right, right)):
                chance = p * like_good + (1 - p) * like_bad
                if chance > 0:
                    total += chance * value(x, y, put(good, rock, round(p * like_good / chance, 12)), steps - 1)
            best = max(best, total)
        return best

    return value(0, size // 2, (0.5,) * len(cells), horizon)


def put(values, place, value):
    return (*values[:place], value, *values[place + 1 :])


def test_a_small_rock_sample_is_that_of_an_independent_solver():
    env = RockSample(size=3, rocks=1, horizon=8)
    assert exact_value(env) == pytest.approx(rock_value(env, 8), abs=1e-9)


@pytest.mark.nightly
def test_rock_sample_is_that_of_an_independent_solver():
    """RockSample(3, 2) exactly; RockSample(4, 4) between its bounds, the lower of which is the value itself."""
    env = RockSample(size=3, rocks=2, horizon=8)
    assert exact_value(env) == pytest.approx(rock_value(env, 8), abs=1e-9)
    env = RockSample(rocks=4, horizon=8)
    value, (lower, upper) = rock_value(env, 8), point_based(env.pomdp, 8, 100)[1]
    assert (env.size, env.rocks) == (4, 4)
    assert value == pytest.approx(17.5, abs=1e-6)
    assert lower == pytest.approx(value, abs=1e-6)
    assert upper >= value
