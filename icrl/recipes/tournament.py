"""A tournament: agents against environments on the same draws; nothing is pretrained but what is named."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self

import numpy as np

from icrl.core.devices import host_workers
from icrl.core.progress import Progress
from icrl.core.registry import agents, experiments
from icrl.core.settings import flat
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Environment, EnvSpec
from icrl.evaluation.online import Trial
from icrl.recipes.agent_names import agent_of
from icrl.recipes.experiment import AnySettings, Experiment
from icrl.recipes.ledger import Ledger
from icrl.recipes.run import Run, reopen
from icrl.recipes.tuning import Choice, Tuner


class MatchUp(NamedTuple):
    """An environment, for how long, and who plays in it."""

    name: str
    env: Environment
    num_steps: int
    num_tasks: int
    agents: dict[str, Agent]
    skipped: dict[str, str]  # why the others do not play


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A pretrained agent, and the environments it can play in."""

    label: str
    agent: Agent
    spec: EnvSpec  # of the family it was trained on

    @classmethod
    def of_run(cls, folder: Path) -> Self:
        """The first agent of the run in ``folder``."""
        run = reopen(folder)
        agent = experiments[run.experiment].load_agent(run.settings, run, 0)
        return cls(f"model of {run.experiment} (ours)", agent, run.settings.env.spec)

    def refuses(self, env: Environment, num_steps: int) -> str:
        """Why it does not fit ``env``; empty if it does."""
        mine, other = self.spec, env.spec
        facts = ("num_actions", "action_box", "obs_shape", "obs_nvec")
        same = all(getattr(mine, fact) == getattr(other, fact) for fact in facts)
        if not same:
            return f"needs observations and actions as in {mine.name}"
        room = self.agent.capacity
        return "" if room is None or num_steps <= room else f"needs rollouts of at most {room} steps"


def regrets_of(
    match: MatchUp,
    tasks: TaskSet,
    seed: int,
    bar: Progress,
    ledger: Ledger,
    quick: bool = False,
    tuner: Tuner | None = None,
) -> tuple[dict[str, np.ndarray], list[Choice]]:
    """Cumulative regret [N, T] of every agent; side by side, as most of the time may go into compiling.

    Args:
      match: who plays where.
      tasks: the tasks that all of them play in.
      seed: of the environment's draws.
      bar: is advanced by one for each agent.
      ledger: of the run; what it holds is not measured again.
      quick: compile with fewer optimisations (results may differ in the last bits).
      tuner: of the same environment; None: nobody is tuned.

    Returns:
      Regret by name, tuned agents with the settings chosen and with their defaults, and what was chosen.
    """
    trial = Trial(match.env, tasks, match.num_steps, seed, quick)

    def regret_of(name: str, agent: Agent) -> np.ndarray:
        return ledger.once(f"{name} in {match.name}", lambda: {"regret": trial.regret(agent, label="")})["regret"]

    def played(name: str) -> tuple[dict[str, np.ndarray], Choice | None]:
        regrets = {name: regret_of(name, match.agents[name])}
        choice = tuner.choice(name) if tuner and name in agents else None
        if choice:
            regrets[choice.best] = regret_of(choice.best, agent_of(match.env, choice.best))
        return regrets, choice

    regrets: dict[str, np.ndarray] = {}
    choices: list[Choice] = []
    with ThreadPoolExecutor(host_workers()) as pool:
        for name, (found, choice) in zip(match.agents, pool.map(played, match.agents), strict=True):
            regrets |= found
            choices += [choice] if choice else []
            bar.advance(1, f"{name} in {match.name}")
    return regrets, choices


class Tournament(Experiment[AnySettings], Generic[AnySettings]):
    """Base of the experiments in which agents play; ``settings.env`` names the family in the results."""

    @classmethod
    def play(cls, settings: AnySettings, run: Run) -> dict[str, Any]:
        """``claim``, ``num_tasks``, ``num_steps``, ``checks``, ``seconds`` of stages, and sections of the results."""
        raise NotImplementedError(f"{cls.__name__} must define play")

    @classmethod
    def run(cls, settings: AnySettings, run: Run) -> dict[str, Any]:
        started, env = time.monotonic(), run.settings.env
        sections = cls.play(settings, run)
        spent, stages = time.monotonic() - started, sections.pop("seconds", {})
        return run.results(
            title=cls.title,
            train_seeds=[0],
            env={"id": env.name, **flat(env)},
            published=list(cls.published),
            seconds={**stages, "evaluation": spent - sum(stages.values()), "total": spent},
            **sections,
        )
