"""In-context reinforcement learning on JAX.

Tasks make environments, learners act in them, a sequence model is pretrained on what they lived through, and the
frozen model is dropped into new tasks as just another agent, next to UCB, Thompson sampling and the exact optimum.

Importing the package imports no jax; it only tells gymnasium which environments exist, so that
``gymnasium.make("icrl:icrl/GaussianBandit-v0")`` and ``gymnasium.make_vec(...)`` work.
"""

import importlib
from typing import TYPE_CHECKING, Any

from icrl.core import registry as registry
from icrl.core.registry import Entry, environments

if TYPE_CHECKING:
    from icrl.core.interact import interact as interact
    from icrl.core.tasks import TaskSet as TaskSet
    from icrl.datasets.foreign import store_histories as store_histories
    from icrl.datasets.importing import import_histories as import_histories
    from icrl.gym.environments import make_agent as make_agent
    from icrl.gym.environments import make_env as make_env
    from icrl.recipes.public import evaluate as evaluate
    from icrl.recipes.public import open_histories as open_histories
    from icrl.recipes.public import pretrain as pretrain
    from icrl.recipes.public import read_results as read_results
    from icrl.recipes.public import run as run
    from icrl.recipes.recipe import Recipe as Recipe
    from icrl.recipes.run import load_agent as load_agent
    from icrl.recipes.shared import export_agent as export_agent

__version__ = "0.1.0"
_LAZY = {  # public names and the modules that define them, imported when they are used
    "Recipe": "icrl.recipes.recipe",
    "TaskSet": "icrl.core.tasks",
    "evaluate": "icrl.recipes.public",
    "export_agent": "icrl.recipes.shared",
    "import_histories": "icrl.datasets.importing",
    "interact": "icrl.core.interact",
    "load_agent": "icrl.recipes.run",
    "make_agent": "icrl.gym.environments",
    "make_env": "icrl.gym.environments",
    "open_histories": "icrl.recipes.public",
    "pretrain": "icrl.recipes.public",
    "read_results": "icrl.recipes.public",
    "run": "icrl.recipes.public",
    "store_histories": "icrl.datasets.foreign",
}
__all__ = ["registry", *_LAZY]  # noqa: PLE0604 the names of the table


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'icrl' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


def _register_with_gymnasium(name: str, env_id: str) -> None:
    """Let gymnasium know the environment registered as ``name``, which ``env_id`` finds in any process."""
    import gymnasium

    gymnasium.registry.pop(f"icrl/{name}", None)  # of a cell of a notebook that is run again
    gymnasium.register(
        id=f"icrl/{name}",
        entry_point="icrl.gym.environments:IcrlEnv",
        vector_entry_point="icrl.gym.vectors:IcrlVectorEnv",
        kwargs={"env_id": env_id},
        disable_env_checker=True,  # wraps the first steps in slow checks; our tests run check_env on every id
    )


def _watch(entry: Entry) -> None:
    _register_with_gymnasium(entry.name, f"{entry.file}:{entry.name}")


for _declared in environments.declared():
    _register_with_gymnasium(_declared.name, _declared.name)
environments.watchers.append(_watch)
