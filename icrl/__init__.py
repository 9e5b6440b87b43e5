"""In-context reinforcement learning on JAX.

Tasks make environments, learners act in them, a sequence model is pretrained on what they lived through, and the
frozen model is dropped into new tasks as just another agent, next to UCB, Thompson sampling and the exact optimum.

Importing the package imports no jax; it only tells gymnasium which environments exist, so that
``gymnasium.make("icrl:icrl/GaussianBandit-v0")`` and ``gymnasium.make_vec(...)`` work.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icrl.gym.environments import make_agent as make_agent
    from icrl.recipes.run import load_agent as load_agent

__version__ = "0.1.0"
__all__ = ["load_agent", "make_agent"]


def __getattr__(name: str) -> Any:
    if name == "make_agent":
        from icrl.gym.environments import make_agent

        return make_agent
    if name == "load_agent":
        from icrl.recipes.run import load_agent

        return load_agent
    raise AttributeError(f"module 'icrl' has no attribute {name!r}")


def _register_with_gymnasium() -> None:
    import gymnasium

    from icrl.core.registry import environments

    for declared in environments.declared():
        gymnasium.register(
            id=f"icrl/{declared.name}",
            entry_point="icrl.gym.environments:IcrlEnv",
            vector_entry_point="icrl.gym.environments:IcrlVectorEnv",
            kwargs={"env_id": declared.name},
            disable_env_checker=True,  # wraps the first steps in slow checks; our tests run check_env on every id
        )


_register_with_gymnasium()
