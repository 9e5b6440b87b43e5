"""Stored histories under load: write many, open, read one task at random. Prints seconds, bytes and peak memory.

python benchmarks/history_store.py [--tasks 1000] [--histories 100] [--steps 500]
"""

import argparse
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from icrl.datasets.histories import SHARD_STEPS
from icrl.datasets.store import StoredRecords, store_records


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--histories", type=int, default=100)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    shape = (args.histories, args.steps)
    shard_tasks = max(1, SHARD_STEPS // (args.histories * args.steps))
    with tempfile.TemporaryDirectory() as name:
        folder, start = Path(name) / "data", time.perf_counter()
        store_records(folder, partial(synthetic, shape), args.tasks, {}, shard_tasks)
        print(f"{args.tasks * args.histories:,} histories of {args.steps} steps")
        print(f"written in {time.perf_counter() - start:.1f} s, {size(folder) / 2**20:,.0f} MiB on disk")
        start = time.perf_counter()
        StoredRecords(folder)
        print(f"opened and verified in {time.perf_counter() - start:.1f} s")
        stored, times = StoredRecords(folder, verify=False), []
        for task in np.random.default_rng(0).integers(args.tasks, size=100):
            start = time.perf_counter()
            stored.fetch(np.array([task]))
            times.append(time.perf_counter() - start)
        print(f"all histories of one task read in {1e3 * np.median(times):.1f} ms (median of 100)")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def synthetic(shape: tuple[int, int], ids: np.ndarray) -> dict[str, np.ndarray]:
    """Random walks that look like a dark room's, [n, R, T, ...]."""
    rng = np.random.default_rng(int(ids[0]))
    cells = rng.integers(0, 9, (len(ids), *shape, 2)).astype(np.float32)
    truncated = np.broadcast_to(np.arange(shape[1]) % 20 == 19, (len(ids), *shape))
    return {
        "obs": cells,
        "action": rng.integers(0, 5, (len(ids), *shape), np.int32),
        "reward": (rng.random((len(ids), *shape), np.float32) < 0.5).astype(np.float32),
        "next_obs": np.roll(cells, -1, axis=2),
        "terminated": np.zeros((len(ids), *shape), bool),
        "truncated": truncated,
    }


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
