"""The exact imitator against plain Bayes over tasks and phases in float64, and against what is known of its play."""

import jax
import numpy as np
import pytest

from icrl.agents.exact_imitator import ExactImitator
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.envs._splits import SPLITS
from icrl.envs.corridor import Corridor
from icrl.envs.dark_key_to_door import DarkKeyToDoor
from icrl.envs.dark_room import DarkRoom
from icrl.evaluation.offline import action_cross_entropy
from icrl.evaluation.online import Trial
from icrl.recipes.measure import imitator_of
from icrl.recipes.run import settings_of

H = 4
ROOM = DarkRoom(size=3, horizon=H)
advance, best_action, task_of = map(jax.jit, (ROOM.advance, ROOM.optimal_action, ROOM.task))
SOURCE = {"history_steps": 24, "anneal_steps": 10.0, "final_epsilon": 0.1}  # the last two of five beginnings are alike


def law(history, window):
    """p(a_t | window) [T, K] by loops: each window begins H steps later than the one before, W - H .. W - 1 back."""
    optimal, explains = [], []
    for index in range(9):
        task, state, best, same = task_of(index), None, [], []
        for t in range(len(history.action)):
            state = ROOM.begin(np.asarray(history.obs[t], np.int32)) if t % H == 0 else state
            best.append(int(best_action(task, state)))
            state, reward = advance(task, state, history.action[t])
            same.append(int(reward) == int(history.reward[t]))
        optimal.append(best)
        explains.append(same)
    found = np.zeros((len(history.action), 5))
    for t in range(len(found)):
        start = max(0, (t // H + 1) * H - window)
        joint, probs = 0.0, np.zeros(5)
        for best, same in zip(optimal, explains, strict=True):
            for phase in range(0, SOURCE["history_steps"] - window + 1, H):
                weight = float(all(same[start:t]))
                for i in range(start, t + 1):
                    progress = min((phase + i - start) / SOURCE["anneal_steps"], 1.0)
                    epsilon = 1.0 - 0.9 * progress
                    each = np.full(5, epsilon / 5) + (1 - epsilon) * (np.arange(5) == best[i])
                    if i < t:
                        weight *= each[int(history.action[i])]
                joint, probs = joint + weight, probs + weight * each
        found[t] = probs / joint
    return found


def laws_of(agent, history):
    def one_step(state, seen):
        return agent.update(state, seen), agent.action_probs(state, seen.obs)

    return np.asarray(jax.jit(lambda seen: jax.lax.scan(one_step, agent.init(jax.random.key(0)), seen)[1])(history))


@pytest.mark.parametrize("window", [8, *(pytest.param(steps, marks=pytest.mark.nightly) for steps in (4, 12))])
def test_the_law_is_that_of_bayes(window):
    """Over five episodes, of which the window forgets the first ones; the goal is found on the way."""
    source = agents["annealed-oracle"].for_env(ROOM, anneal_steps=20)
    agent = agents["exact-imitator"].for_env(ROOM, window=window, **SOURCE)
    history = interact(key_for(1, "imitate"), ROOM, ROOM.task(2), source, 20).history
    assert float(history.reward.sum()) > 0
    found = laws_of(agent, history)
    np.testing.assert_allclose(found, law(history, window), rtol=2e-4, atol=1e-6)
    if window == 8:
        windows = jax.tree.map(lambda leaf: leaf[None, :8], history)
        losses = action_cross_entropy(agent, windows)[0]
        np.testing.assert_allclose(losses, -np.log(found[np.arange(8), np.asarray(history.action[:8])]), rtol=1e-4)


def test_a_window_that_nothing_explains_begins_again():
    agent = agents["exact-imitator"].for_env(ROOM, window=8, **SOURCE)
    history = interact(key_for(0, "imitate"), ROOM, ROOM.task(2), agents["uniform"].for_env(ROOM), 6).history
    history = history._replace(reward=history.reward.at[2].set(0.5))  # no room pays that
    probs = laws_of(agent, history)
    assert np.all(np.isfinite(probs)) and np.allclose(probs.sum(1), 1.0, atol=1e-5)


def test_recipes_whose_windows_it_knows():
    recipe = settings_of("ad-key-to-door", "smoke", {})
    imitator = imitator_of(recipe)
    assert (imitator.history_steps, imitator.window, imitator.anneal_steps) == (160, 24, 160)
    named = imitator_of(settings_of("ad-key-to-door", "smoke", {"source": ("annealed-oracle@anneal_steps=40",)}))
    assert (named.history_steps, named.anneal_steps) == (160, 40)
    for values in ({"source": ("q-learning",)}, {"filter": "late-half"}, {"noisy_fraction": 0.5}, {"forget": 4}):
        assert imitator_of(settings_of("ad-key-to-door", "smoke", values)) is None
    assert imitator_of(settings_of("dpt-darkroom", "smoke", {})) is None


@pytest.mark.parametrize(
    ("env", "settings", "words"),
    [(ROOM, {"window": 6}, "window: got 6, allowed: whole episodes, a multiple of 4"),
     (ROOM, {"window": 16, "history_steps": 12}, "window: got 16, allowed: at most history_steps, 12"),
     (DarkKeyToDoor(size=30), {}, "history_steps: got 2000, allowed: a length with at most 16,777,216 numbers"),
     (Corridor(), {}, "env: got 'Corridor', allowed: one that is_deterministic and never ends_early, with num_tasks")],
)  # fmt: skip
def test_what_is_refused(env, settings, words):
    with pytest.raises(InputError, match=f"^{words}[^\n]*$"):
        ExactImitator.for_env(env, **settings)


@pytest.mark.nightly
def test_the_imitator_in_key_to_door():
    """Returns over 40 held-out pairs in episodes 1, 10, 40, 100 with windows of two episodes, by a program not ours."""
    env, known = DarkKeyToDoor(), {1: 0.25, 10: 0.61, 40: 1.20, 100: 1.66}
    tasks = TaskSet.of(env, np.asarray(SPLITS["son-2025"](env.num_tasks, 0.9, 0)[1][:40]))
    returns = Trial(env, tasks, 5000, 0).returns(agents["exact-imitator"].for_env(env, anneal_steps=1000), label="")
    found = returns[:, [episode - 1 for episode in known]]
    error = found.std(0, ddof=1) / len(found) ** 0.5
    print(found.mean(0), error)
    assert np.all(np.abs(found.mean(0) - list(known.values())) <= 3 * 2**0.5 * error)
