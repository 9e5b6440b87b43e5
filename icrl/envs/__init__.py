"""Environments: one task family per file, registered next to its definition. Here: what own ones are built on."""

from icrl.envs._bandit import Bandit
from icrl.envs._gymnax_adapter import GymnaxEnvironment

__all__ = ["Bandit", "GymnaxEnvironment"]
