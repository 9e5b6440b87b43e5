"""Grids of settings for tuning: what to try beside the defaults."""

from typing import Any

from icrl.core.types import Agent, Environment, Grid


def each(setting: str, *values: float) -> Grid:
    """One candidate for each of ``values`` of ``setting``."""
    return tuple({setting: value} for value in values)


def multiples(
    agent: type[Agent], env: Environment, settings: tuple[str, ...], factors: tuple[float, ...], most: float = 1e9
) -> Grid:
    """``settings`` as ``for_env`` makes them, all of them times the same one of ``factors``; one candidate a factor.

    Where one is 0 (no noise), the class's own default is taken instead. Values have three digits, so that a name such
    as ``linucb@beta=0.667`` is all of them, and are at most ``most``.
    """
    made: Any = agent.for_env(env)
    known = {name: getattr(made, name) or getattr(agent, name) for name in settings}
    return tuple(
        {name: float(f"{min(factor * value, most):.3g}") for name, value in known.items()} for factor in factors
    )
