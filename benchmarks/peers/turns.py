"""How one side of a comparison is run: a process that computes once for each line it is sent, and answers in JSON.

Nothing but Python itself is imported here, since every peer's interpreter runs it. When a side is ready, it tells how
much one call does and what the first call took, which compiles; each turn then is as many calls as last ``TURN``
seconds, waited for together, so that an accelerator is not kept waiting for Python.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

TURN = 0.2  # seconds at least, if a call is short
MOST_CALLS = 1000
ANSWERS = "ICRL_ANSWERS"  # names the pipe for answers, since libraries print; by hand they come to the terminal


def settings() -> dict[str, Any]:
    """The settings that this process was started with, its last word."""
    return json.loads(sys.argv[-1])


def serve(
    work: Callable[[], Any],
    amount: int,
    unit: str,
    packages: tuple[str, ...] = (),
    wait: Callable[[Any], Any] = lambda done: done,
    **facts: Any,
) -> None:
    """Answer until the other end is closed.

    Args:
      work: one call, which may return before it is done.
      amount: of ``unit`` that a call does.
      packages: those whose versions are told, the one that is compared first.
      wait: returns when the result of ``work`` is there.
      facts: what else is told.
    """
    first, again = (_seconds(work, wait, 1) for _ in range(2))
    calls = max(1, min(MOST_CALLS, int(TURN / max(again[0], 1e-6))))
    answers = os.fdopen(int(os.environ[ANSWERS]), "w") if ANSWERS in os.environ else sys.stdout

    def tell(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    begun = {"first_seconds": first[0], "first_cpu_seconds": first[1]}
    versions = {name: version(name) for name in packages}
    told = {"version": versions[packages[0]], "versions": versions} if packages else {}
    tell(amount=amount, unit=unit, **told, **begun, **facts)
    for _ in sys.stdin:
        wall, cpu = _seconds(work, wait, calls)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tell(seconds=wall / calls, cpu_seconds=cpu / calls, peak_kib=peak)


def _seconds(work: Callable[[], Any], wait: Callable[[Any], Any], calls: int) -> tuple[float, float]:
    """Of the clock and of all threads, for ``calls`` calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        done = work()
    wait(done)
    return time.perf_counter() - wall, time.process_time() - cpu
