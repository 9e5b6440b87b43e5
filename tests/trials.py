"""How many trials the tests of the night make: the environment variable ICRL_TRIALS is a factor for all of them."""

import os

FACTOR = float(os.environ.get("ICRL_TRIALS", "1"))


def trials(count: int) -> int:
    """``count`` trials, or as many as were asked for."""
    return max(1, round(count * FACTOR))


def verdict(name: str, done: int, faults: list) -> None:
    """Print how many trials there were, for ``pytest -s``; fail with the first faults if there are any."""
    print(f"\n{name}: {len(faults)} faults in {done} trials", flush=True)
    assert not faults, "\n".join(map(str, faults[:20]))
