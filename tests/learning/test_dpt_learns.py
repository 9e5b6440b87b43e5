"""Probes that learn in seconds, and one that must not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.registry import agents
from icrl.core.tasks import TaskSet
from icrl.datasets.contexts import Batches, ContextGenerator
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.evaluation.online import Trial
from icrl.models.transformer import TransformerConfig
from icrl.recipes.parts import Prediction
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings, initial_state, train_step

SETTINGS = Recipe(
    env=GaussianBandit(num_arms=2, horizon=30, noise_std=0.1),
    backbone=TransformerConfig(width=16, num_layers=1, num_heads=1, positions="none", init_std=0.3),
    fit=FitSettings(train_steps=600, batch_size=32, learning_rate=1e-2, warmup_steps=20),
    prediction=Prediction(layout="query-first"),
)


def train(settings: Recipe, spoil=lambda contexts: contexts):
    env, objective = settings.env, settings.objective()
    source = agents[settings.sources[0]].for_env(env)
    batches = Batches(ContextGenerator(env, source, env.horizon, seed=0), settings.fit.batch_size, seed=0)
    policy = settings.new_policy(0, 0)
    state = initial_state(settings.fit, policy)
    for i in range(settings.fit.train_steps):
        state = train_step(settings.fit, objective, policy.structure, state, spoil(batches(i)), jax.random.key(0))
    return policy.replace(params=state.params), float(state.recent.mean())


@pytest.fixture(scope="module")
def trained():
    return train(SETTINGS)


def test_two_arms_are_learned_in_context(trained):
    policy, loss = trained
    env, tasks = SETTINGS.env, TaskSet.draw(SETTINGS.env, 1, "test", 500)
    model = Trial(env, tasks, env.horizon, 1).regret(SETTINGS.agent(policy))[:, -1]
    uniform = Trial(env, tasks, env.horizon, 1).regret(agents["uniform"].for_env(env))[:, -1]
    assert loss < 0.5  # ln 2 = 0.693 is knowing nothing
    assert model.mean() < 0.4 * uniform.mean()


def test_first_action_of_an_empty_context_is_close_to_uniform(trained):
    """Position 0 is trained: every arm is the best one equally often, so nothing else can be right."""
    policy, _ = trained
    agent = SETTINGS.agent(policy)
    probs = jax.nn.softmax(agent.init(jax.random.key(0)).logits)
    np.testing.assert_allclose(probs, 0.5, atol=0.1)


def test_a_model_fed_labels_of_other_tasks_learns_only_the_prior():
    """Negative control (labels do not leak into inputs): the loss must stay at ln 2."""

    def swap_labels(contexts):
        return contexts._replace(label=jnp.roll(contexts.label, 1))

    _, loss = train(SETTINGS, swap_labels)
    assert 0.67 < loss < 0.73


def test_order_of_the_past_does_not_matter_without_positions(trained):
    """One layer, no positions: what came before the latest transition is a set (which one is latest does matter)."""
    policy, _ = trained
    objective, env = SETTINGS.objective(), SETTINGS.env
    source = agents[SETTINGS.sources[0]].for_env(env)
    contexts = ContextGenerator(env, source, env.horizon, seed=5).fetch(np.arange(4))
    order = np.append(np.random.default_rng(0).permutation(env.horizon - 1), env.horizon - 1)
    permuted = contexts._replace(history=jax.tree.map(lambda x: x[:, order], contexts.history))
    probs = [jnp.exp(-objective.cross_entropy(policy, given)[:, -1]) for given in (contexts, permuted)]
    np.testing.assert_allclose(probs[0], probs[1], atol=1e-5)
