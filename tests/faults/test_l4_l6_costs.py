"""L4: memory that training keeps, at any save cadence. L6: what all the safety costs, beside the same work without it.

Costs are ratios of two ways that are measured in turns; what they come to is printed, and bounded only by sense.
"""

import gc
import os
import shutil
import statistics
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from trials import trials

from icrl.datasets.store import store_records
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.recipes.data import RunData, contexts_of
from icrl.storage import checkpoints
from icrl.training.fit import fit
from icrl.training.step import FitSettings, initial_state

STEPS, TURNS = trials(20_000), trials(10)
PART = max(200, STEPS // 4)
MIB = 2**20


def resident() -> int:
    """Bytes of this process in memory that are not files."""
    gc.collect()
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(told["RssAnon"].split()[0]) * 1024


def train(folder: Path, steps: int, save_every: int) -> None:
    recipe = DPTBandit.presets["smoke"]
    settings = FitSettings(train_steps=steps, batch_size=4, warmup_steps=1, log_every=100, save_every=save_every)
    batch = RunData(folder, 0).batches(recipe, 0)(0)
    batch = jax.tree.map(lambda x: x[:4], batch)
    policy, key = recipe.new_policy(0, 0), jax.random.key(0)
    fit(settings, policy, recipe.objective(), lambda step: batch, folder, key=key)


@pytest.mark.nightly
@pytest.mark.parametrize("save_every", [20, 100, 500, 10**6])
def test_l4_memory_does_not_grow_with_steps(tmp_path, save_every):
    train(tmp_path / "first", 200, 20)  # what is needed once
    points = []
    for part in range(4):
        place = tmp_path / str(part)
        train(place, PART, save_every)
        points.append(resident())
        shutil.rmtree(place)
    slope = np.polyfit(np.arange(4) * PART / 1000, np.array(points) / MIB, 1)[0]
    print(f"\nL4, a save every {save_every}: {slope:.2f} MiB per 1 000 steps, {points[-1] / MIB:.0f} MiB", flush=True)
    assert len(os.listdir("/proc/self/fd")) < 200
    if STEPS >= 5000:
        assert slope <= 1.0


def in_turns(*ways) -> list[float]:
    """Median seconds of each."""
    seconds = [[] for _ in ways]
    for _ in range(TURNS):
        for way, mine in zip(ways, seconds, strict=True):
            began = time.perf_counter()
            way()
            mine.append(time.perf_counter() - began)
    return [statistics.median(mine) for mine in seconds]


@pytest.mark.nightly
def test_l6_cost_of_storing_beside_making(tmp_path):
    """All of a collection beside the making of its contexts and ``np.save`` of their arrays."""
    source, count = contexts_of(DPTBandit.presets["cpu"], 0, "pretrain/0"), 4096

    def records(ids):
        made = source.fetch(ids)
        return {**{name: np.asarray(x) for name, x in made.history._asdict().items()}, "label": np.asarray(made.label)}

    def safe():
        store_records(tmp_path / "safe", records, count, {"seed": 0})
        shutil.rmtree(tmp_path / "safe")

    def plain():
        (tmp_path / "plain").mkdir()
        for low in range(0, count, 1024):
            for name, field in records(np.arange(low, low + 1024)).items():
                np.save(tmp_path / "plain" / f"{low}-{name}.npy", field)
        shutil.rmtree(tmp_path / "plain")

    safe(), plain()
    with_it, without = in_turns(safe, plain)
    print(f"\nL6, a collection: {with_it / without:.3f} times as long ({with_it:.2f} s, {without:.2f} s)", flush=True)
    assert with_it < 5 * without


@pytest.mark.nightly
def test_l6_cost_of_a_save_beside_orbax(tmp_path, monkeypatch):
    recipe = DPTBandit.presets["cpu"]
    state = initial_state(recipe.fit.resolved(recipe.new_policy(0, 0)), recipe.new_policy(0, 0))
    leaves, step = checkpoints.named_leaves(state), iter(range(10**6))

    def safe():
        checkpoints.save(tmp_path / "safe", next(step), state)

    def plain():
        place = tmp_path / f"plain-{next(step)}"
        place.mkdir()
        checkpoints._orbax_save(place / "state", leaves, place)

    safe(), plain()
    with_it, without = in_turns(safe, plain)
    print(f"\nL6, a save: {with_it / without:.3f} times as long ({with_it:.3f} s, {without:.3f} s)", flush=True)
    assert with_it < 10 * without
