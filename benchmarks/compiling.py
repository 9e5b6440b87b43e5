"""What compiling costs each experiment: its preset smoke is run with nothing compiled before. Prints a table.

python benchmarks/compiling.py [dpt-bandit ad-darkroom ...]        # all experiments by default

Seconds of the clock, summed over threads that compile at the same time, so that a share may exceed 1 on two cores;
"programs" are those that XLA compiled, "tracing" is what jax does before.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EVENTS = {  # of jax.monitoring
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "tracing",
    "/jax/core/compile/backend_compile_duration": "XLA",
}
OF_ONE = "--in-this-process"


def main(words: list[str]) -> None:
    if words[:1] == [OF_ONE]:
        print(measured(words[1]))
        return
    from icrl.core.registry import experiments

    print("| experiment | programs | tracing, s | XLA, s | whole run, s | share of XLA |\n|---|---|---|---|---|---|")
    for name in words or experiments:
        command = [sys.executable, __file__, OF_ONE, name]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "ICRL_COMPILATION_CACHE": "off"}
        )
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        print(lines[-1] if done.returncode == 0 else f"| {name} | {lines[-1]} | | | | |", flush=True)


def measured(name: str) -> str:
    """The row of an experiment."""
    import jax

    from icrl.cli import main as icrl

    seconds, programs = {"tracing": 0.0, "XLA": 0.0}, [0]

    def hear(event: str, duration: float, **_: object) -> None:
        if event in EVENTS:
            seconds[EVENTS[event]] += duration
            programs[0] += EVENTS[event] == "XLA"

    jax.monitoring.register_event_duration_secs_listener(hear)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        code = icrl(["run", name, "--preset", "smoke", "--out", str(Path(folder) / "run")])
        whole = time.perf_counter() - began
    if code:
        sys.exit(code)  # the command has said why
    cells = [name, programs[0], *(f"{seconds[each]:.1f}" for each in ("tracing", "XLA")), f"{whole:.1f}"]
    return f"| {' | '.join(map(str, cells))} | {seconds['XLA'] / whole:.2f} |"


if __name__ == "__main__":
    main(sys.argv[1:])
