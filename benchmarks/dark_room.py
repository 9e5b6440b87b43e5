"""Dark Room at work: stepping, Q-learning histories, DPT contexts, and an AD model's episodes. Prints rates.

Beside each rate stands what is published or was measured of the code people use today (steps or tasks a second on two
CPU cores), and the ratio to it.

python benchmarks/dark_room.py
"""

import numpy as np

from icrl.datasets.room_contexts import IndependentContexts
from icrl.envs.dark_room import DarkRoom, DarkRoomCorner
from icrl.recipes.bench import Load, distilled, seconds_of, stepping


def main() -> None:
    report("stepping, 1024 rooms", stepping(DarkRoom(), "uniform", 2000), 9.9e4, "vectorised gymnasium")
    report("Q-learning, 1024 learners", stepping(DarkRoom(), "q-learning", 500), 6.9e4, "numba, one process")
    report("DPT contexts, H = 100", contexts(), 4.6e2, "the DPT paper's code")
    report("AD, window of 80", distilled(), 1.7e3, "the DICP paper's code")


def report(what: str, load: Load, today: float, whose: str) -> None:
    rate = load.amount / seconds_of(load)[1]
    print(f"{what:<28} {rate:12,.0f} {load.unit + '/s':<8} ratio {rate / today:8,.0f} to {today:,.0f} ({whose})")


def contexts(batch: int = 4096) -> Load:
    stream = IndependentContexts(DarkRoomCorner(), np.arange(80), 100, seed=0)
    return Load(batch, "tasks", lambda: stream.fetch(np.arange(batch)))


if __name__ == "__main__":
    main()
