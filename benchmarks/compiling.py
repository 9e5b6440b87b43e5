"""What compiling costs each experiment: its preset smoke, with nothing compiled before and once more.

python benchmarks/compiling.py [dpt-bandit 'leaderboard --tune grid' ...] [--json FILE] [--no-file]

Without words, all experiments; words are arguments of ``icrl run``, with ``--preset smoke`` where they name none. Each
run is a process of its own, kept to one core: seconds are those of CPU time, which others on the machine hardly change.
The first run finds an empty folder of compiled programs, the second what the first has left there, which is what takes
``SHORTEST`` or longer to compile (``core/compilation_cache.py``).

"Tracing" is what jax does before XLA compiles; the file has tracing proper and lowering apart, and the clock beside.
It is written anew after each row, by default ``results/DATE-DEVICE-NUMBER.json``; ``docs/compile_costs.py`` draws it.
"""

import argparse
import collections
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SET = "compiling"  # of the file, beside the sets of ``rows.py``
PHASES = {  # events of jax.monitoring
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "xla",
}
READ = "/jax/compilation_cache/cache_hits"
OF_ONE = "--in-this-process"


def main() -> int:
    from compare import SCHEMA, described, keep_to, new_file, processor  # imports jax, which the runs must do later

    from icrl.core.registry import experiments
    from icrl.storage.publish import publish_json
    from icrl.storage.run_folder import versions

    args = parsed()
    keep_to(1)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "set": SET,
        "device": described(),
        "processor": processor(),
        "date": datetime.date.today().isoformat(),
        "cores": 1,
        "versions": versions(),
        "rows": [],
    }
    path = args.json or new_file(document)
    for words in args.words or experiments:
        document["rows"].append(row_of(words))
        print(told(document["rows"][-1]), flush=True)
        if not args.no_file:
            publish_json(path, document)
    return int(any("failed" in row for row in document["rows"]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*", help="arguments of `icrl run`, in quotes; all experiments by default")
    parser.add_argument("--json", type=Path, default=None, help="the file of the results")
    parser.add_argument("--no-file", action="store_true", help="print only")
    return parser.parse_args()


def row_of(words: str) -> dict[str, Any]:
    """Both runs of ``icrl run WORDS``, or why there are none."""
    row: dict[str, Any] = {"name": words, "load": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory() as folder:
        for turn in ("first", "again"):
            command = [sys.executable, __file__, OF_ONE, words, str(Path(folder) / turn)]
            compiled = {"ICRL_COMPILATION_CACHE": str(Path(folder) / "compiled")}
            done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **compiled})
            if done.returncode:
                return row | {"failed": (done.stderr.strip().splitlines() or ["no word"])[-1][:300]}
            row[turn] = json.loads(done.stdout.splitlines()[-1])
    return row


def told(row: dict[str, Any]) -> str:
    """A line for a reader."""
    if "failed" in row:
        return f"{row['name']}: {row['failed']}"
    first, again = row["first"], row["again"]
    tracing = first["cpu"]["tracing"] + first["cpu"]["lowering"]
    words = f"{first['programs']} programs, CPU s: tracing {tracing:.1f}, XLA {first['cpu']['xla']:.1f}"
    return f"{row['name']}: {words}, the whole run {first['cpu']['run']:.1f}; again {again['cpu']['run']:.1f}"


# --- In a process of its own ---


class Meter:
    """CPU seconds and seconds of the clock in each phase; of one inside another, the outer has what is left."""

    def __init__(self) -> None:
        self.cpu: collections.Counter[str] = collections.Counter()
        self.clock: collections.Counter[str] = collections.Counter()
        self.events: collections.Counter[str] = collections.Counter()
        self._own = threading.local()  # stack of what has begun: (CPU time, clock, CPU time inside, clock inside)

    def began(self, event: str, _: float, **__: object) -> None:
        if event in PHASES:
            self._stack().append([time.process_time(), time.perf_counter(), 0.0, 0.0])

    def ended(self, event: str, _: float, **__: object) -> None:
        if event in PHASES:
            cpu, clock, cpu_inside, clock_inside = self._stack().pop()
            cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
            if self._stack():
                self._stack()[-1][2] += cpu
                self._stack()[-1][3] += clock
            self.events[event] += 1
            self.cpu[PHASES[event]] += cpu - cpu_inside
            self.clock[PHASES[event]] += clock - clock_inside

    def happened(self, event: str, **_: object) -> None:
        self.events[event] += 1

    def _stack(self) -> list[list[float]]:
        return self._own.__dict__.setdefault("stack", [])


def measured(words: str, folder: str) -> dict[str, Any]:
    """What ``icrl run WORDS`` costs this process, from its beginning on."""
    from icrl.core.compilation_cache import keep_compiled_programs

    keep_compiled_programs()
    import jax

    from icrl.cli import main as icrl

    meter, clock = Meter(), time.perf_counter()
    jax.monitoring.register_scalar_listener(meter.began)
    jax.monitoring.register_event_duration_secs_listener(meter.ended)
    jax.monitoring.register_event_listener(meter.happened)
    argv = shlex.split(words)
    preset = [] if "--preset" in argv else ["--preset", "smoke"]
    if code := icrl(["run", *argv, *preset, "--out", folder]):
        sys.exit(code)  # the command has said why
    return {
        "programs": meter.events[list(PHASES)[-1]] - meter.events[READ],
        "read": meter.events[READ],
        "cpu": {**meter.cpu, "run": time.process_time()},
        "clock": {**meter.clock, "run": time.perf_counter() - clock},
    }


if __name__ == "__main__":
    if sys.argv[1:2] == [OF_ONE]:
        print(json.dumps(measured(*sys.argv[2:])))
    else:
        sys.exit(main())
