"""Algorithm distillation in seconds: a model of histories that improve has to improve, one of their ends must not."""

import jax
import numpy as np
import pytest

from icrl.core.registry import agents
from icrl.core.settings import replaced
from icrl.core.tasks import TaskSet
from icrl.core.types import History
from icrl.datasets.histories import HistoryGenerator, Part
from icrl.datasets.windows import DeviceHistories, Windows
from icrl.envs.dark_room import DarkRoom
from icrl.evaluation.online import Trial
from icrl.models.transformer import TransformerConfig
from icrl.recipes.parts import HISTORIES, DataSettings, Evaluation, Prediction
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings, initial_state, train_step

ENV = DarkRoom(size=3, horizon=6)
SETTINGS = Recipe(
    env=ENV,
    backbone=TransformerConfig(width=32, num_layers=2, num_heads=2, init_std=0.2),
    fit=FitSettings(train_steps=500, batch_size=32, learning_rate=5e-3, warmup_steps=20),
    data=DataSettings(data=HISTORIES, context_steps=30, history_steps=240, train_fraction=0.7),
    prediction=Prediction(objective="ad"),
    evaluation=Evaluation(eval_steps=120),
)


def lived(history_steps: slice, settings: Recipe = SETTINGS) -> np.ndarray:
    """Return by episode [20] of a model distilled from that part of the histories, in the tasks it was trained on."""
    source = Part(agents["annealed-oracle"].for_env(ENV, anneal_steps=200.0), 24)
    records = HistoryGenerator(ENV, (source,), 240, np.arange(9), seed=0).fetch(np.arange(9))
    rows = History(*(records[name].reshape(-1, *records[name].shape[2:])[:, history_steps] for name in History._fields))
    batches = Windows(
        DeviceHistories(rows), np.arange(9 * 24), settings.context_steps, settings.fit.batch_size, (0,), ENV.horizon
    )
    policy = settings.new_policy(0, 0)
    state = initial_state(settings.fit, policy)
    for number in range(settings.fit.train_steps):
        state = train_step(
            settings.fit, settings.objective(), policy.structure, state, batches(number), jax.random.key(0)
        )
    agent = settings.agent(policy.replace(params=state.params))
    tasks = TaskSet.of(ENV, np.arange(9)).repeat(10)
    return Trial(ENV, tasks, settings.num_episodes * settings.episode, 1).returns(agent).mean(0)


@pytest.fixture(scope="module")
def whole():
    return lived(slice(None))


def test_distilled_histories_improve_in_context(whole):
    assert whole[-5:].mean() > whole[:2].mean() + 1.0


@pytest.mark.nightly
def test_distilled_experts_do_not(whole):
    """Expert distillation, the paper's control: windows from the end of the histories show no improvement to copy."""
    experts = lived(slice(210, None))
    assert experts[-5:].mean() < whole[-5:].mean() - 0.5


@pytest.mark.nightly
def test_a_context_of_one_episode_does_not_learn(whole):
    """What earlier episodes showed is out of sight, so that later ones can be hardly better than the first."""
    short = lived(slice(None), replaced(SETTINGS, {"context_steps": ENV.horizon}))
    assert short[-5:].mean() - short[:2].mean() < 0.3 * (whole[-5:].mean() - whole[:2].mean())
