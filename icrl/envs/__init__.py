"""Environments: one task family per file, registered next to its definition."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icrl.envs._bandit import Bandit as Bandit
    from icrl.envs._gymnax_adapter import GymnaxEnvironment as GymnaxEnvironment

_LAZY = {  # what those who write their own build on, and the modules that define it; imported when used
    "Bandit": "icrl.envs._bandit",
    "GymnaxEnvironment": "icrl.envs._gymnax_adapter",
}
__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
