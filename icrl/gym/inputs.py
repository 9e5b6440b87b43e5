"""What a gymnasium user hands over, checked on the host: settings, options of a reset, tasks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import near_names, require
from icrl.core.types import Environment


def checked_settings(name: str, item: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The ``settings`` of a registered ``item`` called ``name``; an unknown one is refused with those that exist."""
    fields = [field.name for field in dataclasses.fields(item) if field.init]  # type: ignore[arg-type]
    allowed = [field for field in fields if field != "env"]  # an oracle's environment is the one that it is made for
    for given in settings:
        require(given in allowed, f"{name} setting", given, ", ".join(allowed), near_names(given, allowed))
    return dict(settings)


def checked_options(options: Mapping[str, Any] | None, allowed: tuple[str, ...]) -> dict[str, Any]:
    """The ``options`` of a reset, of which only the ``allowed`` ones exist."""
    require(options is None or isinstance(options, Mapping), "options", options, "a dictionary, or None")
    wishes = dict(options or {})
    for name in wishes:
        require(name in allowed, "reset option", name, ", ".join(allowed))
    new_task = wishes.get("new_task", False)
    require(isinstance(new_task, bool), "options['new_task']", new_task, "True or False")
    require(not (new_task and "task" in wishes), "options", "new_task and task", "one of the two")
    return wishes


def checked_oracle(oracle: bool, env: Environment) -> bool:
    """``oracle``, which only an environment whose optimum is known can have."""
    require(isinstance(oracle, bool), "oracle", oracle, "True or False")
    require(not oracle or env.spec.knows_optimum, "oracle", oracle, f"False: the optimum of {env.name} is not known")
    return oracle


def checked_task(env: Environment, task: Any) -> Any:
    """``task`` with leaves of the family's dtypes."""
    env.validate_task(task)
    return _with_family_dtypes(env, task)


def checked_tasks(env: Environment, tasks: Any, num_tasks: int) -> Any:
    """Stacked ``tasks``, leaves [N, ...] of the family's dtypes."""
    leaves, structure = jax.tree.flatten(jax.device_get(tasks))
    stacked = all(np.ndim(leaf) > 0 and len(leaf) == num_tasks for leaf in leaves)
    require(stacked, "options['task']", [np.shape(leaf) for leaf in leaves], f"shapes that begin with {num_tasks}")
    for rows in zip(*leaves, strict=True):
        env.validate_task(jax.tree.unflatten(structure, rows))
    return _with_family_dtypes(env, tasks)


def _with_family_dtypes(env: Environment, task: Any) -> Any:
    wanted = jax.tree.leaves(jax.eval_shape(env.sample_task, jax.random.key(0)))
    leaves, structure = jax.tree.flatten(task)
    require(len(leaves) == len(wanted), "options['task']", f"{len(leaves)} leaves", f"{len(wanted)}, each an array")
    cast = [jnp.asarray(leaf, like.dtype) for leaf, like in zip(leaves, wanted, strict=True)]
    return jax.tree.unflatten(structure, cast)
