"""When an episode is over, for agents that count its steps."""

import jax.numpy as jnp

from icrl.core.types import Array, Transition


def next_step(horizon: int, step: Array, transition: Transition) -> tuple[Array, Array]:
    """The clock of an episode of at most H steps, after ``transition``.

    Args:
      horizon: H.
      step: [] int32 in 0 .. H - 1, steps done before the transition.
      transition: of an episode that it may terminate or truncate; after H steps it is over in any case.

    Returns:
      Steps done in the episode to come next, [] int32 in 0 .. H - 1, and whether the one before is over, [] bool.
    """
    over = transition.terminated | transition.truncated | (step + 1 >= horizon)
    return jnp.where(over, 0, step + 1), over
