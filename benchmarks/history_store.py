"""Stored histories under load: write many, open, filter, cut windows. Prints seconds, bytes and peak memory.

python benchmarks/history_store.py [--tasks 1000] [--histories 100] [--steps 500] [--gib 20]

With ``--gib`` so many tasks are written that the set takes that much of the disk; their positions are random floats,
which do not become smaller on it. Reading happens in a process of its own that may have 256 files open.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.registry import filters
from icrl.datasets.histories import SHARD_STEPS, StoredHistories
from icrl.datasets.pooled import PooledHistories
from icrl.datasets.store import store_records
from icrl.datasets.windows import Windows

EPISODE, WINDOW, OPEN_FILES = 20, 80, 256
FLOAT_STEP = 18  # bytes of a step with two float positions: 2 x 8, action and reward 1 each; flags are constant


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--histories", type=int, default=100)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--gib", type=float, default=None)
    parser.add_argument("--read", type=Path, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read(args.read)
        return
    per_task = args.histories * args.steps
    if args.gib is not None:
        args.tasks = round(args.gib * 2**30 / (per_task * FLOAT_STEP))
    records = partial(synthetic, (args.histories, args.steps), args.gib is not None)
    with tempfile.TemporaryDirectory() as name:
        folder, start = Path(name) / "data", time.perf_counter()
        store_records(folder, records, args.tasks, card(args.tasks, args.steps), max(1, SHARD_STEPS // per_task))
        print(f"{args.tasks * args.histories:,} histories of {args.steps} steps")
        print(f"written in {time.perf_counter() - start:.1f} s, {size(folder) / 2**30:.2f} GiB on disk")
        print(
            f"peak memory of writing {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB", flush=True
        )
        subprocess.run([sys.executable, __file__, "--read", str(folder)], check=True)


def read(folder: Path) -> None:
    """All that training does with a set, but for training."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    anonymous = Peak("RssAnon")
    with anonymous:
        pooled = timed("opened and verified", partial(whole, folder))
        table = timed("returns read", pooled.table)
        chosen = timed("filtered (lhf)", partial(filters["lhf"]().select, table, np.random.default_rng(0)))
        windows = Windows(pooled, chosen.index, WINDOW, 1, (0,), EPISODE)
        drop_cached(folder)
        report("one random window, not in the page cache", windows, 200)
        report("one random window, drawn again", windows, 200)
        report("64 random windows", Windows(pooled, chosen.index, WINDOW, 64, (0,), EPISODE), 50)
    print(
        f"peak memory of reading {anonymous.kib / 2**20:.2f} GiB; {status('VmHWM') / 2**20:.2f} GiB with mapped pages"
    )


def whole(folder: Path) -> PooledHistories:
    stored = StoredHistories(folder)
    return PooledHistories(((stored, stored.num_histories),))


def timed(what: str, call: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = call()
    print(f"{what} in {time.perf_counter() - start:.1f} s", flush=True)
    return result


def report(what: str, windows: Windows, count: int) -> None:
    windows(count)[0].block_until_ready()  # compiled
    times = []
    for step in range(count):
        start = time.perf_counter()
        windows(step)[0].block_until_ready()
        times.append(1e3 * (time.perf_counter() - start))
    print(
        f"{what}: median {np.median(times):.2f} ms, 99 % {np.quantile(times, 0.99):.2f} ms, longest {max(times):.2f} ms"
    )


class Peak:
    """The largest value of a line of /proc/self/status while the block runs, looked at every 5 ms."""

    def __init__(self, line: str):
        self.line, self.kib, self._done = line, 0, threading.Event()

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.kib = max(self.kib, status(self.line))

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()


def status(line: str) -> int:
    """KiB on a line of /proc/self/status."""
    words = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())[line]
    return int(words.split()[0])


def drop_cached(folder: Path) -> None:
    """Take the files out of the page cache (they are on disk already)."""
    for path in folder.rglob("*.npy"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def card(num_tasks: int, num_steps: int) -> dict[str, object]:
    ids, optimal = list(range(num_tasks)), [float(EPISODE)] * num_tasks
    return {"num_steps": num_steps, "episode_steps": EPISODE, "task_ids": ids, "optimal_return": optimal}


def synthetic(shape: tuple[int, int], floats: bool, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Histories [n, R, T, ...] that look like a dark room's, or, with ``floats``, have random positions in a square."""
    rng, shape = np.random.default_rng(int(ids[0])), (len(ids), *shape)
    place = rng.random((*shape, 2), np.float32) if floats else rng.integers(0, 9, (*shape, 2)).astype(np.float32)
    return {
        "obs": place,
        "action": rng.integers(0, 5, shape, np.int32),
        "reward": (rng.random(shape, np.float32) < 0.5).astype(np.float32),
        "next_obs": np.roll(place, -1, axis=2),
        "terminated": np.zeros(shape, bool),
        "truncated": np.broadcast_to(np.arange(shape[2]) % EPISODE == EPISODE - 1, shape),
    }


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
