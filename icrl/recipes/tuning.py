"""Settings of competitors, chosen on tasks of their own: nobody is compared by defaults that suit somebody else.

Every agent with settings declares a grid of the same size (``Agent.grid``, ``Agent.candidates``). Its candidates, the
defaults first, play the tuning tasks under draws of the purpose "tune"; the one that loses least there is what the test
tasks see. Candidates differ in leaves of the agent, so that they run in one compiled program.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import require
from icrl.core.registry import agents
from icrl.core.types import Environment
from icrl.envs._splits import Split
from icrl.evaluation.online import Trial
from icrl.evaluation.statistics import interval
from icrl.recipes.agent_names import agent_of, in_words, text_of
from icrl.recipes.ledger import Ledger
from icrl.recipes.parts import GRID

TUNE = "tune"  # of the tasks and draws


def check_tuning(tune: str, tune_tasks: int | None, split: Split | None) -> None:
    """Raise ``InputError`` unless there are as many tuning tasks as are asked for, two at least for an interval."""
    if tune == GRID and split is not None:
        count, least = len(split[0]), tune_tasks or 2
        hint = "settings are tuned in training tasks, at least two for an interval"
        require(count >= least, "tune_tasks", tune_tasks, f"at most {count}, as many as there are training tasks", hint)


class Choice(NamedTuple):
    """What tuning made of one agent."""

    agent: str  # registered name
    best: str  # AGENT@SETTING=VALUE; the name alone if its defaults are best
    losses: dict[str, np.ndarray]  # by candidate, [N] float64: final regret, or the reward less than 0 without one


def candidates_of(env: Environment, name: str) -> list[str]:
    """The registered ``name`` and what tuning tries besides, as AGENT@SETTING=VALUE; empty for one without settings.

    Raises:
      InputError: a candidate without values, or with a setting that the agent does not have.
    """
    tried = agents[name].candidates(env)
    for settings in tried:
        require(isinstance(settings, dict) and bool(settings), f"grid of {name}", settings, "settings with values")
    return list(dict.fromkeys([name, *(text_of(name, settings) for settings in tried)])) if tried else []


@dataclasses.dataclass(frozen=True)
class Tuner:
    """Chooses settings by ``trial``, whose tasks and draws are those of tuning; ``ledger`` keeps what was played."""

    trial: Trial
    ledger: Ledger

    def choice(self, name: str, **shared: Any) -> Choice | None:
        """The best candidate of the registered ``name``, the first of equals; None where nothing is to be chosen.

        The exact posterior sampler of the environment is what it is, so it is not tuned. ``shared`` are settings of all
        candidates.
        """
        env = self.trial.env
        tried = [] if name == env.spec.exact_sampler else candidates_of(env, name)
        if not tried:
            return None
        losses = {each: self._losses(each, shared) for each in tried}
        return Choice(name, min(tried, key=lambda each: float(losses[each].mean())), losses)

    def _losses(self, candidate: str, shared: dict[str, Any]) -> np.ndarray:
        """Final regret in each tuning task, [N] float64; where no optimum is known, what is earned, negative."""

        def played() -> dict[str, np.ndarray]:
            curves = self.trial.curves(agent_of(self.trial.env, candidate, **shared), label="")
            regret, reward = (curves[field].sum(1, dtype=np.float64) for field in ("regret", "reward"))
            return {"losses": np.where(np.isnan(regret), -reward, regret)}

        return self.ledger.once(f"tuning {candidate} in {self.trial.env.name}", played)["losses"]


def tuning_table(choices: Sequence[Choice]) -> dict[str, Any]:
    """What was chosen for whom, and what it and the defaults lost in the tuning tasks."""
    rows: list[list[Any]] = [
        [
            in_words(each.agent),
            in_words(each.best) if each.best != each.agent else "defaults",
            interval(each.losses[each.best][None]).band(),
            interval(each.losses[each.agent][None]).band(),
            len(each.losses),
        ]
        for each in choices
    ]
    count = len(choices[0].losses[choices[0].agent])
    return {
        "title": f"Settings of competitors, chosen on {count:,} tuning tasks",
        "columns": ["agent", "chosen", "loss with these", "loss with defaults", "tried"],
        "rows": rows,
        "note": "Loss: final regret, or the reward less than none where no optimum is known. No test task was seen.",
    }
