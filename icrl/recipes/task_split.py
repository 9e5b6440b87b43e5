"""Which tasks a model or a competitor's settings may be chosen on, and which they are evaluated in."""

from collections.abc import Sequence

import numpy as np

from icrl.core.tasks import TaskSet
from icrl.core.types import Environment
from icrl.envs._splits import SPLITS, Split
from icrl.recipes.parts import DataSettings

FEW = 4  # tasks of a numbered family that is not split: its models are trained and evaluated on the same ones


def task_split(env: Environment, data: DataSettings) -> Split | None:
    """Numbers of the training and of the held-out tasks; None where tasks are drawn from the prior."""
    count = env.num_tasks
    if count is None or count < FEW or env.spec.is_stationary_bandit:
        return None
    return SPLITS[data.split](count, data.train_fraction, data.split_seed)


def tasks_for(
    env: Environment, ids: Sequence[int] | None, seed: int, purpose: str, count: int, each: int = 1
) -> TaskSet:
    """``count`` tasks, each ``each`` times in a row: the first of ``ids``, or those of the stream (seed, purpose)."""
    if ids is None:
        return TaskSet.draw(env, seed, purpose, count).repeat(each)
    return TaskSet.of(env, np.asarray(ids[:count])).repeat(each)
