"""Whether a recipe can be run: its parts of others keep the laws of form, and it fits into memory and onto the disk.

What it needs is a lower bound from shapes alone, before anything compiles.

What is refused would have failed; what passes may still fail (activations inside a model are counted at their least).
"""

import math
from pathlib import Path

import jax

from icrl.core import registry
from icrl.core.devices import data_mesh
from icrl.core.resources import Need, require_disk, require_memory
from icrl.core.types import Environment, EnvSpec
from icrl.models._sizes import size_of
from icrl.recipes.recipe import Recipe
from icrl.testing import environments, models
from icrl.testing._law import is_foreign
from icrl.training.step import FitSettings

COPIES = 4  # of the parameters in training: themselves, a gradient, two moments of AdamW
STREAMS = 6  # arrays of the residual stream's size that a layer keeps for its backward pass, at least
FLOAT = 4  # bytes
CURVE = 8  # bytes of a step of a measured curve, of regret and of reward


def check_parts_of_others(recipe: Recipe) -> None:
    """Raise ``BrokenLawError`` for an environment or a model of another package that could not be run."""
    if is_foreign(recipe.env):
        environments.check_form(recipe.env)
    check_model(recipe.model)


def check_model(name: str) -> None:
    """Raise ``BrokenLawError`` for a model of another package that could not be run."""
    if is_foreign(model := registry.models[name]):
        models.check_form(model)


def check_memory(recipe: Recipe) -> None:
    """Raise ``ResourceError`` for a recipe whose training or evaluation cannot fit into memory."""
    backbone, fit, evaluation = recipe.backbone, recipe.fit, recipe.evaluation
    weights = _copies(fit) * FLOAT * size_of(recipe.model, backbone, recipe.num_tokens).parameters
    together = fit.micro_batch or min(fit.batch_size // (fit.gradient_groups or 1), 4)
    stream = together * recipe.layout.num_tokens(recipe.context_steps) * backbone.width * FLOAT
    batch = fit.batch_size * recipe.context_steps * _transition(recipe.env.spec)
    training = fit.seeds_together * (weights + batch + STREAMS * backbone.num_layers * stream)
    curves = 2 * CURVE * recipe.num_held_out * evaluation.rollouts_per_task * recipe.eval_steps
    curves = 0 if recipe.env.is_recorded else curves  # nobody plays
    require_memory(
        Need(
            "training",
            training,
            "width, num_layers, batch_size, micro_batch, gradient_groups, seeds_together, context_steps or horizon",
        ),
        Need("evaluation", curves, "eval_tasks, rollouts_per_task, eval_steps or horizon"),
    )


def _copies(fit: FitSettings) -> float:
    """How often a device holds the parameters, at least; each gradient group has a gradient of its own."""
    groups = fit.gradient_groups or 1
    copies = COPIES + groups - 1
    if not fit.shard_parameters or jax.default_backend() == "cpu":  # the devices of a CPU share its memory
        return copies
    devices = data_mesh(fit.gradient_groups or jax.device_count()).size
    return copies if devices == 1 else 1 + copies / devices  # in a step they are whole


def check_disk(env: Environment, folder: Path, num_steps: int) -> None:
    """Raise ``ResourceError`` where ``num_steps`` transitions cannot fit onto the disk of a ``folder`` to be made.

    A folder that is there holds some of them already, and is not judged.
    """
    if not folder.exists():
        settings = "num-tasks, train_tasks, histories, history_steps, context_steps or horizon"
        require_disk(folder, Need("the collection", num_steps * _stored(env.spec), settings))


def _transition(spec: EnvSpec) -> int:
    """Bytes of a transition in memory: two observations, action, reward, two flags."""
    return 2 * FLOAT * spec.obs_dim + FLOAT * (1 + math.prod(spec.action_shape)) + 2


def _stored(spec: EnvSpec) -> int:
    """Bytes of a transition on disk at least: whole numbers take one each, what never varies takes none."""
    observations = 0 if spec.is_stationary_bandit else 2 * spec.obs_dim * (1 if spec.obs_nvec else FLOAT)
    return observations + 1 + (FLOAT * spec.action_box.dim if spec.action_box else 1)
