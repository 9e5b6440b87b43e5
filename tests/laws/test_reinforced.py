"""Laws of RL^2 for every registered model: what an update differentiates is what acted, wherever its memory was cut."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from siblings import by_day

from icrl.core.action_heads import Categorical
from icrl.core.registry import layouts, models
from icrl.envs.corridor import Corridor
from icrl.envs.memory_len import MemoryLen
from icrl.envs.point_robot import PointRobot
from icrl.recipes.parts import DataSettings, Prediction
from icrl.recipes.recipe import Recipe
from icrl.storage.metrics_log import read_jsonl
from icrl.training import rows
from icrl.training.fit import FitSettings
from icrl.training.loop import train
from icrl.training.ppo import Meeting, _advantages, _read, rollout, samples_of
from icrl.training.rows import fetched

KEY = jax.random.key(7)
HEAD = Categorical(2)  # the actions of a corridor
B, C, N = 4, 16, 8  # environments, steps of a trial, of a rollout: two episodes at most, some end early
DAY = ("s5", "transformer")


def recipe_of(model: str, layout: str = "steps", **prediction) -> Recipe:
    """Two rollouts in a trial of two episodes, some of which end early, so that memories begin anew inside."""
    config = models[model].Config
    return Recipe(
        env=Corridor(length=3, horizon=8),
        model=model,
        backbone=config(width=16, num_layers=2),
        data=DataSettings(context_steps=C, train_fraction=0.75),
        prediction=Prediction(objective="rl2", layout=layout, rollout_steps=N, **{"minibatches": 2, **prediction}),
        fit=FitSettings(train_steps=4, batch_size=B, learning_rate=1e-2, log_every=2, save_every=1),
    )


def louder(learner):
    """The agent with a head that is no longer flat, so that its choices depend on its memory."""
    params = jax.tree.map(lambda leaf: leaf, learner.template.params)
    params["head"]["kernel"] = 50 * params["head"]["kernel"]
    return learner.agent.replace(policy=learner.template.replace(params=params))


@partial(jax.jit, static_argnames="trials")
def two_rollouts(trials, agent, ids, meeting):
    """Samples and logits of both rollouts of a trial, read in one go and one step after the other."""
    found = []
    for step in range(2):
        lived, start, is_last = rollout(
            trials, agent, ids, KEY, jax.random.fold_in(KEY, step), jnp.int32(step), meeting
        )
        samples = samples_of(trials, agent, lived, start, is_last)
        at_once, _ = _read(trials, agent.policy, agent.policy.params, samples)
        acted = jax.vmap(partial(one_by_one, agent))(start.agent_state, lived.history)
        found.append((samples, at_once[:, :-1], acted, lived))
        meeting = Meeting(lived.agent_state, lived.next_state, lived.next_obs)
    return found


def lived_in(learner, agent):
    """Both rollouts of the first trial."""
    ids = None if learner.task_ids is None else jnp.asarray(learner.task_ids)
    return two_rollouts(learner.trials, agent, ids, learner.initial_state().more["meeting"])


def one_by_one(agent, state, history):
    """Logits [n, K] in front of each step, as the agent met them."""

    def step(state, transition):
        return agent.update(state, transition), agent.logits(state, transition.obs)

    return jax.lax.scan(step, state, history)[1]


CASES = [by_day(model, "steps", day=model in DAY) for model in models] + [
    by_day("s5", layout, day=False) for layout in layouts if layout not in ("steps", "query-first")
]


@pytest.mark.parametrize(("model", "layout"), CASES)
def test_what_is_differentiated_is_what_acted(model, layout):
    """The first ratio is 1 everywhere, behind ends of episodes, of trials and of rollouts as well."""
    recipe = recipe_of(model, layout)
    learner = recipe.learner(0, 0)
    found = lived_in(learner, louder(learner))
    ended = np.concatenate([np.asarray(lived.history.terminated) for *_, lived in found], axis=1)
    assert ended[:, :-1].any(), "no episode ended early: the test would see no border"
    for samples, at_once, acted, lived in found:
        np.testing.assert_allclose(at_once, acted, atol=5e-5)
        ratio = jnp.exp(HEAD.log_prob(at_once, lived.history.action) - samples.log_prob)
        np.testing.assert_allclose(ratio, 1.0, atol=1e-5)
    assert float(jnp.abs(found[1][0].carry[0].mixer if model == "s5" else 1.0).max()) > 0


@pytest.mark.nightly
def test_what_is_differentiated_is_what_acted_in_a_box_of_actions():
    """Also where actions are vectors, whose density is that of a squashed Gaussian."""
    recipe = dataclasses.replace(recipe_of("s5"), env=PointRobot(horizon=8))
    learner = recipe.learner(0, 0)
    for samples, at_once, acted, lived in lived_in(learner, louder(learner)):
        np.testing.assert_allclose(at_once, acted, atol=5e-5)
        log_prob = recipe.layout.head.log_prob(at_once, lived.history.action)
        np.testing.assert_allclose(jnp.exp(log_prob - samples.log_prob), 1.0, atol=1e-3)


def test_the_gradient_is_that_of_the_steps_one_after_the_other():
    learner = recipe_of("s5").learner(0, 0)
    trials, agent = learner.trials, louder(learner)
    samples, _, _, lived = lived_in(learner, agent)[0]
    fresh = jax.vmap(lambda _: agent.init(KEY))(jnp.arange(B))

    def by_steps(params):
        acting = agent.replace(policy=agent.policy.replace(params=params))
        logits = jax.vmap(partial(one_by_one, acting))(fresh, lived.history)
        return jnp.sum(HEAD.log_prob(logits, lived.history.action) * samples.advantage)

    def at_once(params):
        logits = _read(trials, agent.policy, params, samples)[0][:, :-1]
        return jnp.sum(HEAD.log_prob(logits, lived.history.action) * samples.advantage)

    one, other = (jax.jit(jax.grad(loss))(agent.policy.params) for loss in (by_steps, at_once))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-5), one, other)
    assert float(jnp.abs(one["embed"]["kernel"]).max()) > 0


def test_advantages_are_the_sums_they_stand_for():
    """Against sums of discounted errors written out, with a trial's end in the middle of one row."""
    trials = recipe_of("s5", discount=0.9, gae_lambda=0.8, reward_scale=2.0).learner(0, 0).trials
    objective = dataclasses.replace(trials.objective, rollout_steps=None)
    trials = dataclasses.replace(trials, objective=objective, trial_steps=5)
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, 5)), rng.normal(size=(2, 6))
    cut = np.zeros((2, 5), bool)
    cut[0, 2] = cut[1, 4] = True
    expected = np.zeros((2, 5))
    for row, t in np.ndindex(2, 5):
        weight = 1.0
        for later in range(t, 5):
            follows = 0.0 if cut[row, later] else 0.9 * value[row, later + 1]
            expected[row, t] += weight * (2.0 * reward[row, later] + follows - value[row, later])
            weight *= 0.0 if cut[row, later] else 0.9 * 0.8
    found = _advantages(trials, jnp.float32(reward), jnp.float32(value), jnp.asarray(cut))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_counts_from_behind_a_trial():
    """Two rollouts of a trial: the second goes on where the first ended, and nothing follows it."""
    learner = recipe_of("s5", discount=1.0, gae_lambda=1.0).learner(0, 0)
    trials, agent = learner.trials, louder(learner)
    (first, *_, lived), (second, *_, last) = lived_in(learner, agent)
    assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(second.carry)), "an empty memory is like a new one"
    jax.tree.map(np.testing.assert_array_equal, second.carry, lived.agent_state.carry)
    to_come = trials.reward_scale * np.cumsum(np.asarray(last.history.reward)[:, ::-1], 1)[:, ::-1]
    quiet = ~np.asarray(last.history.terminated | last.history.truncated)[:, :-1].any(1)
    np.testing.assert_allclose(np.asarray(second.target)[quiet], to_come[quiet], atol=1e-5)
    assert not np.allclose(np.asarray(first.target)[:, -1], trials.reward_scale * lived.history.reward[:, -1])


def test_rewards_of_later_episodes_count_only_if_they_are_to():
    """With discount 1 an episode's targets sum to its own rewards, or to those of all that follows."""
    learner = recipe_of("s5", discount=1.0, gae_lambda=1.0, across_episodes=False).learner(0, 0)
    second, *_, last = lived_in(learner, louder(learner))[1]
    reward = learner.trials.reward_scale * np.asarray(last.history.reward)
    over = np.asarray(last.history.terminated | last.history.truncated)
    expected, follows = np.zeros_like(reward), np.zeros(B)
    for t in reversed(range(N)):
        follows = expected[:, t] = reward[:, t] + np.where(over[:, t], 0.0, follows)
    assert over[:, :-1].any()
    np.testing.assert_allclose(second.target, expected, atol=1e-5)


def test_a_stopped_training_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    """The environments, tasks and memories under way are in the checkpoint, in the middle of a trial too.

    Its rows wait for the next ones, as on an accelerator.
    """
    recipe = recipe_of("s5")
    whole = train(recipe.learner(0, 0), tmp_path / "whole")
    learner = recipe.learner(0, 0)
    monkeypatch.setattr(rows, "lag", lambda: 1)
    monkeypatch.setattr(rows._Asked, "is_there", property(lambda asked: False))

    class Dies(type(learner)):
        def step(self, state, number):
            assert number != 4, "dies in the middle of a trial"
            return super().step(state, number)

    fields = {each.name: getattr(learner, each.name) for each in dataclasses.fields(learner)}
    with pytest.raises(AssertionError, match="dies"):
        train(Dies(**fields), tmp_path / "cut")
    again = train(learner, tmp_path / "cut")
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    for one, other in zip(*(read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("cut", "whole")), strict=True):
        assert one["trial_return"] == other["trial_return"] and one["gradient_norm"] == other["gradient_norm"]


def test_memory_is_learned_where_it_is_needed():
    """Four steps between the bit and the question: a model with memory answers, one without guesses."""
    scores = {}
    for model in ("s5", "mlp"):
        recipe = Recipe(
            env=MemoryLen(length=3),
            model=model,
            backbone=models[model].Config(width=16, num_layers=1),
            prediction=Prediction(objective="rl2", layout="steps"),
            fit=FitSettings(train_steps=60, batch_size=64, learning_rate=1e-2, warmup_steps=0, log_every=10),
        )
        learner = recipe.learner(0, 0)
        state = learner.initial_state()
        for step in range(60):
            state, _ = learner.step(state, step + 1)
        scores[model] = fetched(learner.report(state, np.arange(10))["trial_return"])
    assert scores["s5"] > 0.9 and abs(scores["mlp"]) < 0.2, scores
