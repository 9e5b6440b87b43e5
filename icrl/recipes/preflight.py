"""Whether a recipe fits into memory and onto the disk: a lower bound from shapes alone, before anything compiles.

What is refused would have failed; what passes may still fail (activations inside a model are counted at their least).
"""

from pathlib import Path

from icrl.core.resources import Need, require_disk, require_memory
from icrl.core.types import EnvSpec
from icrl.models._sizes import size_of
from icrl.recipes.parts import CONTEXTS
from icrl.recipes.recipe import Recipe

COPIES = 4  # of the parameters in training: themselves, a gradient, two moments of AdamW
STREAMS = 6  # arrays of the residual stream's size that a layer keeps for its backward pass, at least
FLOAT = 4  # bytes
CURVE = 8  # bytes of a step of a measured curve, of regret and of reward


def check_memory(recipe: Recipe) -> None:
    """Raise ``ResourceError`` for a recipe whose training or evaluation cannot fit into memory."""
    backbone, fit, evaluation = recipe.backbone, recipe.fit, recipe.evaluation
    weights = COPIES * FLOAT * size_of(recipe.model, backbone, recipe.num_tokens).parameters
    together = fit.micro_batch or min(fit.batch_size, 4)
    stream = together * recipe.layout.num_tokens(recipe.context_steps) * backbone.width * FLOAT
    batch = fit.batch_size * recipe.context_steps * _transition(recipe.env.spec)
    training = weights + batch + STREAMS * backbone.num_layers * stream
    curves = 2 * CURVE * evaluation.eval_tasks * evaluation.rollouts_per_task * recipe.eval_steps
    require_memory(
        Need("training", training, "width, num_layers, batch_size, micro_batch, context_steps or horizon"),
        Need("evaluation", curves, "eval_tasks, rollouts_per_task, eval_steps or horizon"),
    )


def check_disk(recipe: Recipe, folder: Path, num_tasks: int | None = None) -> None:
    """Raise ``ResourceError`` for data that cannot fit onto the disk of ``folder``.

    Args:
      recipe: what collects them.
      folder: where they are going to be.
      num_tasks: tasks that are stored; None: those that training wants.
    """
    data = recipe.data
    if data.kind == CONTEXTS:
        steps = recipe.context_steps * (num_tasks or 0)
    else:
        steps = recipe.history_steps * data.histories * (num_tasks or data.train_tasks)
    settings = "num-tasks, context_steps" if data.kind == CONTEXTS else "train_tasks, histories, history_steps"
    require_disk(folder, Need("the collection", steps * _stored(recipe.env.spec), f"{settings} or horizon"))


def _transition(spec: EnvSpec) -> int:
    """Bytes of a transition in memory: two observations, action, reward, two flags."""
    return 2 * FLOAT * spec.obs_dim + 2 * FLOAT + 2


def _stored(spec: EnvSpec) -> int:
    """Bytes of a transition on disk at least, where whole numbers take one each."""
    return 2 * spec.obs_dim * (1 if spec.obs_nvec else FLOAT) + 4
