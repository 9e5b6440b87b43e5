"""Which experts of a mixture serve what."""

from typing import Any

import jax
import numpy as np

SEQUENCES = 16  # shown one by one


def routing(objective: Any, policy: Any, batch: Any, together: int = 1) -> list[dict[str, Any]]:
    """Which experts of each branch serve what: mean gates by kind of token and by sequence of ``batch`` (the first 16).

    With ``together`` 2 the sequences 2i and 2i + 1 are of one task, and named so.

    Returns ``Routing`` sections of a results document; none for a policy without experts.
    """
    tokens = objective.inputs(jax.tree.map(lambda leaf: leaf[:SEQUENCES], batch))
    kinds, names = np.asarray(objective.layout.kinds(tokens.shape[1])), objective.layout.token_names
    found = []
    for label, gates in zip(policy.branches, jax.jit(jax.vmap(policy.gates))(tokens), strict=True):
        shares = {name: gates[:, kinds == number].mean((0, 1)) for number, name in enumerate(names)}
        shares |= {_name(number, together): each.mean(0) for number, each in enumerate(gates)}
        found.append({"branch": label, "groups": list(shares), "share": np.stack(list(shares.values()))})
    return found


def _name(number: int, together: int) -> str:
    """Of a sequence, counted from 0."""
    return f"sequence {number + 1}" if together == 1 else f"task {number // 2 + 1}, {'ab'[number % 2]}"
