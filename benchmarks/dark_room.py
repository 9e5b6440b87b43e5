"""Dark Room at work: stepping, Q-learning histories, DPT contexts, and an AD model's episodes. Prints rates.

Beside each rate stands what is published or was measured of the code people use today (steps or tasks a second on two
CPU cores), and the ratio to it.

python benchmarks/dark_room.py
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.tasks import TaskSet
from icrl.datasets.room_contexts import IndependentContexts
from icrl.envs.dark_room import DarkRoom, DarkRoomCorner
from icrl.evaluation.online import Trial
from icrl.models.transformer import TransformerConfig
from icrl.recipes.parts import HISTORIES, DataSettings, Prediction
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings

MANY = 1024


def main() -> None:
    report("stepping, 1024 rooms", steps_per_second("uniform", 2000), 9.9e4, "steps/s", "vectorised gymnasium")
    report("Q-learning, 1024 learners", steps_per_second("q-learning", 500), 6.9e4, "steps/s", "numba, one process")
    report("DPT contexts, H = 100", contexts_per_second(), 4.6e2, "tasks/s", "the DPT paper's code")
    report("AD, window of 80", distilled_steps_per_second(), 1.7e3, "steps/s", "the DICP paper's code")


def report(what: str, rate: float, today: float, unit: str, whose: str) -> None:
    print(f"{what:<28} {rate:12,.0f} {unit:<8} ratio {rate / today:8,.0f} to {today:,.0f} ({whose})")


def seconds(work: Callable[[], Any]) -> float:
    """The median of three, after one to compile."""
    jax.block_until_ready(work())
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def steps_per_second(agent: str, steps: int) -> float:
    env = DarkRoom()
    player = agents[agent].for_env(env)
    tasks = TaskSet.of(env, np.arange(MANY) % env.num_tasks)
    keys = jax.random.split(jax.random.key(0), MANY)
    lives = jax.jit(jax.vmap(lambda key, task: jnp.sum(interact(key, env, task, player, steps).curves.reward)))
    return MANY * steps / seconds(partial(lives, keys, tasks.params))


def contexts_per_second(batch: int = 4096) -> float:
    stream = IndependentContexts(DarkRoomCorner(), np.arange(80), 100, seed=0)
    return batch / seconds(lambda: stream.fetch(np.arange(batch)))


def distilled_steps_per_second(lives: int = 200, episodes: int = 20) -> float:
    settings = Recipe(
        env=DarkRoom(),
        data=DataSettings(data=HISTORIES, context_steps=80),
        prediction=Prediction(objective="ad"),
        backbone=TransformerConfig(width=32, num_layers=4, num_heads=4),
        fit=FitSettings(),
    )
    agent = settings.agent(settings.new_policy(0, 0))
    tasks = TaskSet.of(settings.env, np.arange(20)).repeat(lives // 20)
    work = partial(Trial(settings.env, tasks, episodes * settings.episode, 0).returns, agent)
    return lives * episodes * settings.episode / seconds(work)


if __name__ == "__main__":
    main()
