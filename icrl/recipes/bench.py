"""``icrl bench``: what this machine does in a second, from stepping environments to whole steps of training.

Each row is compiled, which is timed, and then run a few times, of which the median counts. Ratios to other people's
programs are made by the scripts of ``benchmarks/``, side by side in one run.
"""

import dataclasses
import datetime
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.console import stdout_may_fail
from icrl.core.devices import device_name
from icrl.core.errors import InputError, near_names, require, shown
from icrl.core.interact import interact
from icrl.core.model_types import Supervised
from icrl.core.progress import Progress
from icrl.core.registry import agents
from icrl.core.tasks import TaskSet
from icrl.core.types import Environment
from icrl.datasets.contexts import ContextGenerator
from icrl.envs.dark_room import DarkRoom
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.evaluation.online import Trial
from icrl.models.transformer import TransformerConfig
from icrl.recipes.parts import HISTORIES, ROLLING, STREAM, DataSettings, Evaluation, Prediction
from icrl.recipes.recipe import Recipe
from icrl.reports.report import print_tables
from icrl.storage.publish import publish_json
from icrl.storage.run_folder import versions
from icrl.training.seeds import stacked
from icrl.training.step import FitSettings, initial_state, train_step

REPEATS = 5
MANY = 1024  # tasks side by side


class Load(NamedTuple):
    """Something to do, again and again."""

    amount: int  # of units in one call
    unit: str
    work: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """One row."""

    name: str
    what: str
    compile_seconds: float  # of the first call, less one of those that follow
    per_second: float
    unit: str


def stepping(env: Environment, agent: str, steps: int, count: int = MANY) -> Load:
    """``agent`` in ``count`` tasks side by side."""
    player, tasks = agents[agent].for_env(env), TaskSet.draw(env, 0, "bench", count)
    keys = jax.random.split(jax.random.key(0), count)
    rollouts = jax.jit(jax.vmap(lambda key, task: jnp.sum(interact(key, env, task, player, steps).curves.reward)))
    return Load(count * steps, "steps", partial(rollouts, keys, tasks.params))


def bandit_recipe(steps: int, heads: int) -> Recipe:
    """DPT on Gaussian bandits, as in Lee et al. 2023 but for the batch."""
    return Recipe(
        env=GaussianBandit(horizon=steps),
        backbone=TransformerConfig(num_heads=heads),
        fit=FitSettings(batch_size=64),
        prediction=Prediction(layout="query-first"),
    )


def _contexts(steps: int = 500, batch: int = 256) -> Load:
    env = GaussianBandit(horizon=steps)
    stream = ContextGenerator(env, agents["dirichlet-mix"].for_env(env), steps, seed=0)
    return Load(batch, "contexts", lambda: stream.fetch(np.arange(batch)))


def training(steps: int = 500, heads: int = 4, seeds: int = 1) -> Load:
    """Steps of DPT's training, in tokens; of several training seeds together, in tokens of all of them."""
    recipe = bandit_recipe(steps, heads)
    source = agents["dirichlet-mix"].for_env(recipe.env)
    batch = ContextGenerator(recipe.env, source, steps, seed=0).fetch(np.arange(recipe.fit.batch_size))
    policies, objective = [recipe.new_policy(0, seed) for seed in range(seeds)], recipe.objective()
    assert isinstance(objective, Supervised)
    fit, structure = recipe.fit.resolved(policies[0]), policies[0].structure
    batches, key = stacked([batch] * seeds), stacked([jax.random.key(seed) for seed in range(seeds)])
    state = [stacked([initial_state(fit, policy) for policy in policies])]

    def step() -> Any:  # gives its state away
        state[0] = train_step(fit, objective, structure, state[0], batches, key)
        return state[0]

    return Load(seeds * fit.batch_size * recipe.layout.num_tokens(steps), "tokens", step)


def evaluating(steps: int = 500, count: int = 200, heads: int = 4) -> Load:
    """The model of ``training`` in ``count`` bandits of its own."""
    recipe = bandit_recipe(steps, heads)
    trial = Trial(recipe.env, TaskSet.draw(recipe.env, 0, "bench", count), steps, 0)
    return Load(count * steps, "steps", partial(trial.regret, recipe.agent(recipe.new_policy(0, 0)), 0, ""))


def distilled(episodes: int = 20, count: int = 200, rule: str = ROLLING) -> Load:
    """AD with a window of four episodes in Dark Rooms, read again behind each episode or streaming through a ring."""
    plain, ring = TransformerConfig(num_heads=4), TransformerConfig(attention_window=160, positions="rotary")
    recipe = Recipe(
        env=DarkRoom(),
        data=DataSettings(data=HISTORIES, context_steps=80),
        prediction=Prediction(objective="ad"),
        backbone=ring if rule == STREAM else plain,
        fit=FitSettings(),
        evaluation=Evaluation(context=(rule,)),
    )
    tasks, steps = TaskSet.draw(recipe.env, 0, "bench", count), episodes * recipe.episode
    trial = Trial(recipe.env, tasks, steps, 0)
    return Load(count * steps, "steps", partial(trial.returns, recipe.agent(recipe.new_policy(0, 0)), 0, ""))


BENCHES: dict[str, tuple[str, Callable[[], Load]]] = {
    "bandit": (
        "Thompson sampling, 1 024 Gaussian bandits",
        lambda: stepping(GaussianBandit(), "thompson-gaussian", 500),
    ),
    "room": ("uniform play, 1 024 Dark Rooms", lambda: stepping(DarkRoom(), "uniform", 2000)),
    "learners": ("Q-learning, 1 024 Dark Rooms", lambda: stepping(DarkRoom(), "q-learning", 500)),
    "contexts": ("contexts of 500 pulls for DPT", _contexts),
    "training": ("a training step of DPT: width 32, 4 layers, T = 500, batch 64", training),
    "seeds": ("a step of five training seeds of it together", partial(training, seeds=5)),
    "evaluation": ("that model in context: 200 tasks, 500 steps", evaluating),
    "distilled": ("AD in Dark Room, window of 80: 200 rollouts, 20 episodes", distilled),
    "streamed": ("the same, streaming: a ring of as many tokens", partial(distilled, rule=STREAM)),
}


def bench(names: str = "", json: Path | None = None) -> list[Measured]:
    """Measure the benches ``names``, commas between them (all, if empty), print a table, and write them into ``json``.

    Raises:
      InputError: an unknown bench, or a file that is there already.
    """
    wanted = [name.strip() for name in names.split(",")] if names else list(BENCHES)
    for name in wanted:
        if name not in BENCHES:
            raise InputError(f"bench: got {shown(name)}; {near_names(name, BENCHES)}")
    require(json is None or not json.exists(), "json", str(json), "a new file")
    device, rows = device_name(), []
    with Progress("measuring", len(wanted), "benches") as bar:
        for name in wanted:
            rows.append(_measured(name))
            bar.advance(1, name)
    day = datetime.date.today().isoformat()
    if json is not None:
        document = {
            "device": device,
            "date": day,
            "versions": versions(),
            "rows": [dataclasses.asdict(r) for r in rows],
        }
        publish_json(json, document)
    with stdout_may_fail():
        _print(rows, f"{device}, {day}, jax {versions()['jax']}")
    return rows


def _measured(name: str) -> Measured:
    what, make = BENCHES[name]
    load = make()
    compiling, median = seconds_of(load)
    return Measured(name, what, compiling, load.amount / median, load.unit)


def seconds_of(load: Load) -> tuple[float, float]:
    """Seconds of compiling, and of a call: the median of ``REPEATS``."""
    first, *others = (_seconds(load.work) for _ in range(REPEATS + 1))
    median = statistics.median(others)
    return max(first - median, 0.0), median


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started


def _print(rows: list[Measured], title: str) -> None:
    cells = [[row.name, row.what, f"{row.compile_seconds:.1f}", f"{row.per_second:,.3g} {row.unit}"] for row in rows]
    columns = ["bench", "what", "compiling, s", "a second"]
    print_tables([{"title": title, "columns": columns, "rows": cells}])
