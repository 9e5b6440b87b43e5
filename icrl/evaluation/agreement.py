"""How often two agents choose alike along a history, whoever of them made it: a copy is told from a learner."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.interact import interact, replay
from icrl.core.precision import exact_products, in_32_bits
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Array, Environment
from icrl.evaluation.online import tasks_side_by_side


def agreement(
    env: Environment, tasks: TaskSet, driver: Agent, one: Agent, other: Agent, steps: int, seed: int
) -> np.ndarray:
    """Two shares [N, 2] float64 of the steps behind the first of ``driver``'s rollouts in N tasks.

    The first is of greedy choices of ``one`` that ``other`` would make too. The second is of greedy choices of ``one``
    that repeat the action before, whoever chose it: what an imitator copies that does not learn (de Haan et al. 2019).
    """
    keys = keys_for(key_for(seed, "agreement"), tasks.ids)
    return np.asarray(_agreement(keys, tasks.params, driver, one, other, env, steps), np.float64)


@partial(jax.jit, static_argnames=("env", "steps"))
@in_32_bits
@exact_products
def _agreement(
    keys: Array, params: Any, driver: Agent, one: Agent, other: Agent, env: Environment, steps: int
) -> Array:
    def in_task(task: tuple[Array, Any]) -> Array:
        key, task_params = task
        key_rollout, key_one, key_other = jax.random.split(key, 3)
        history = interact(key_rollout, env, task_params, driver, steps).history
        chosen = replay(key_one, one.for_task(task_params), history)[0][1:steps]
        theirs = replay(key_other, other.for_task(task_params), history)[0][1:steps]
        alike, repeated = chosen == theirs, chosen == history.action[:-1]
        return jnp.stack([jnp.mean(alike.astype(jnp.float32)), jnp.mean(repeated.astype(jnp.float32))])

    return jax.lax.map(in_task, (keys, params), batch_size=tasks_side_by_side(driver))
